package netns

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// ruleWords writes a rule in the syntax of nft(8). It knows the expressions that the backends use for our rules; any other
// is named instead of left out.
func ruleWords(exprs []expr.Any) string {
	var words []string
	loaded := map[uint32]operand{} // by register
	held := func(register uint32) operand {
		if o, ok := loaded[register]; ok {
			return o
		}
		return operand{fmt.Sprintf("register %d", register), hexValue}
	}
	for _, e := range exprs {
		switch e := e.(type) {
		case *expr.Meta:
			loaded[e.Register] = metaOperand(e.Key)
		case *expr.Payload:
			loaded[e.DestRegister] = payloadOperand(e)
		case *expr.Bitwise:
			o := held(e.SourceRegister)
			o.words += " & " + o.value(e.Mask)
			loaded[e.DestRegister] = o
		case *expr.Cmp:
			o := held(e.Register)
			words = append(words, fmt.Sprintf("%s %s %s", o.words, cmpWord(e.Op), o.value(e.Data)))
		case *expr.Counter:
			words = append(words, fmt.Sprintf("counter packets %d bytes %d", e.Packets, e.Bytes))
		case *expr.Verdict:
			words = append(words, verdictWord(e.Kind))
		case *expr.Match: // of iptables-nft before 1.8.3
			words = append(words, "xt match "+e.Name)
		case *expr.Target:
			words = append(words, "xt target "+e.Name)
		default:
			words = append(words, fmt.Sprintf("(%T)", e))
		}
	}
	return strings.Join(words, " ")
}

// operand is what a register holds, and how to write a value that it is compared with.
type operand struct {
	words string
	value func([]byte) string
}

func metaOperand(key expr.MetaKey) operand {
	if key != expr.MetaKeyL4PROTO {
		return operand{fmt.Sprintf("meta %d", key), hexValue}
	}
	return operand{"meta l4proto", func(b []byte) string {
		if len(b) == 1 && b[0] == unix.IPPROTO_TCP {
			return "tcp"
		}
		return hexValue(b)
	}}
}

// payloadOperand knows the fields of the TCP header (RFC 9293 section 3.1); others are written as nft(8)'s raw payload.
func payloadOperand(e *expr.Payload) operand {
	type field struct {
		base        expr.PayloadBase
		offset, len uint32
	}
	switch (field{e.Base, e.Offset, e.Len}) {
	case field{expr.PayloadBaseTransportHeader, 0, 2}:
		return operand{"tcp sport", portValue}
	case field{expr.PayloadBaseTransportHeader, 2, 2}:
		return operand{"tcp dport", portValue}
	case field{expr.PayloadBaseTransportHeader, 13, 1}:
		return operand{"tcp flags", flagsValue}
	}
	base, ok := map[expr.PayloadBase]string{
		expr.PayloadBaseLLHeader: "ll", expr.PayloadBaseNetworkHeader: "nh", expr.PayloadBaseTransportHeader: "th",
	}[e.Base]
	if !ok {
		base = fmt.Sprint(e.Base)
	}
	return operand{fmt.Sprintf("@%s,%d,%d", base, 8*e.Offset, 8*e.Len), hexValue}
}

func hexValue(b []byte) string { return fmt.Sprintf("0x%x", b) }

func portValue(b []byte) string {
	if len(b) != 2 {
		return hexValue(b)
	}
	return fmt.Sprint(binary.BigEndian.Uint16(b))
}

func flagsValue(b []byte) string {
	if len(b) != 1 || b[0] == 0 {
		return hexValue(b)
	}
	var names []string
	for i, name := range []string{"fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr"} {
		if b[0]&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if len(names) == 1 {
		return names[0]
	}
	return "(" + strings.Join(names, "|") + ")"
}

func cmpWord(op expr.CmpOp) string {
	switch op {
	case expr.CmpOpEq:
		return "=="
	case expr.CmpOpNeq:
		return "!="
	case expr.CmpOpLt:
		return "<"
	case expr.CmpOpLte:
		return "<="
	case expr.CmpOpGt:
		return ">"
	case expr.CmpOpGte:
		return ">="
	default:
		return fmt.Sprintf("(compare %d)", op)
	}
}

func verdictWord(kind expr.VerdictKind) string {
	switch kind {
	case expr.VerdictDrop:
		return "drop"
	case expr.VerdictAccept:
		return "accept"
	case expr.VerdictReturn:
		return "return"
	default:
		return fmt.Sprintf("(verdict %d)", kind)
	}
}
