package scenarios

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
)

// TestLackingKeys: what a kernel answers that lacks what keys need is a clear "no", which names it; whatever else it says is not.
func TestLackingKeys(t *testing.T) {
	for _, tt := range []struct {
		by   signing
		err  error
		says string // empty: it is no "no"
	}{
		{aoSigning, nil, ""},
		{aoSigning, unix.ENOPROTOOPT, "CONFIG_TCP_AO"},
		{aoSigning, unix.ENOENT, "CONFIG_CRYPTO_HMAC"}, // Linux 6.12, tinyconfig and CONFIG_TCP_AO
		{aoSigning, unix.ENOMEM, ""},
		{md5Signing, unix.ENOPROTOOPT, "CONFIG_TCP_MD5SIG"},
		{md5Signing, unix.ENOENT, ""},
	} {
		said := tt.err
		if said != nil {
			said = fmt.Errorf("set a key: %w", said)
		}
		got := tt.by.lacking(said)
		var no *kernel.NotSupportedError
		switch is := errors.As(got, &no); {
		case is != (tt.says != ""):
			t.Errorf("%v: %v", tt.err, got)
		case is && !strings.Contains(no.Next, tt.says):
			t.Errorf("%v: the hint is %q, without %s", tt.err, no.Next, tt.says)
		case !is && !errors.Is(got, tt.err):
			t.Errorf("%v became %v", tt.err, got)
		}
	}
}
