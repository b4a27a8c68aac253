package kernel

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Log is the kernel's log, which is the whole host's, from when it was opened on.
type Log struct {
	fd      int
	reports reports
}

// OpenLog opens it. With the sysctl kernel.dmesg_restrict that takes CAP_SYSLOG.
func OpenLog() (*Log, error) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the kernel's log: %w", err)
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("find the end of the kernel's log: %w", err)
	}
	return &Log{fd: fd}, nil
}

// Close closes it.
func (l *Log) Close() { unix.Close(l.fd) }

// maxRecords is how many records Splats reads: more than come while a cell is played, and an end if they never cease.
const maxRecords = 1 << 16

// Splats reads on to the end of the log, and returns the first line of each report of the kernel's about itself in which one
// of the functions is named. It fails if records were overwritten before they were read.
func (l *Log) Splats(functions ...string) ([]string, error) {
	records, err := l.records()
	if err != nil {
		return nil, err
	}
	return splats(records, functions), nil
}

// Reports reads on to the end of the log, and returns the first line of each report of the kernel's about a fault of its own. It
// fails if records were overwritten before they were read.
func (l *Log) Reports() ([]string, error) {
	records, err := l.records()
	if err != nil {
		return nil, err
	}
	var found []string
	for _, r := range records {
		if text, ok := kernelText(r); ok && l.reports.line(text) {
			found = append(found, text)
		}
	}
	return found, nil
}

// clearOnce has the kernel say again what it says once a boot (Documentation/admin-guide/clearing-warn-once.rst); debugfs has it.
const clearOnce = "/sys/kernel/debug/clear_warn_once"

// Rearm has the kernel report again what it reports once, as far as it can be had to.
func (l *Log) Rearm() { _ = os.WriteFile(clearOnce, []byte("1"), 0) }

// records are those since the last time, as /dev/kmsg has them.
func (l *Log) records() ([]string, error) {
	var records []string
	buf := make([]byte, 8<<10) // of one record, which is shorter (PRINTK_MESSAGE_MAX)
	for len(records) < maxRecords {
		n, err := unix.Read(l.fd, buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return records, nil
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, fmt.Errorf("read the kernel's log: %w", err)
		default:
			records = append(records, string(buf[:n]))
		}
	}
	return nil, errors.New("read the kernel's log: there is no end of it")
}

// splats finds the reports among records as /dev/kmsg has them (Documentation/ABI/testing/dev-kmsg): "4,1234,56789,-;text". A
// report begins with "BUG:" or "WARNING:", or with its trace where it has neither, and ends with its trace or where the next
// begins. What a process has written there is not the kernel's word: it cannot have facility 0.
func splats(records, functions []string) []string {
	var found []string
	title, named := "", false // of the report that has begun
	end := func() {
		if named {
			found = append(found, title)
		}
		title, named = "", false
	}
	for _, r := range records {
		text, ok := kernelText(r)
		if !ok {
			continue
		}
		switch {
		case strings.Contains(text, "BUG:"), strings.Contains(text, "WARNING:"):
			end()
			title = text
		case title == "" && strings.Contains(text, "Call Trace:"):
			title = text
		}
		for _, f := range functions {
			named = named || title != "" && strings.Contains(text, f)
		}
		if strings.Contains(text, "</TASK>") || strings.Contains(text, "---[ end trace") {
			end()
		}
	}
	end()
	return found
}

// kernelText is the text of a record that the kernel has written.
func kernelText(record string) (text string, ok bool) {
	prefix, text, _ := strings.Cut(record, ";")
	priority, _, _ := strings.Cut(prefix, ",")
	if len(priority) != 1 || priority > "7" { // the facility times 8, and the level
		return "", false
	}
	text, _, _ = strings.Cut(text, "\n") // what follows are the device, and the like
	return text, true
}
