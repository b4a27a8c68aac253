package result

import (
	"encoding/json"
	"strings"
)

// Ledgers of schema 1 said in words what later ones say in fields of their own: steps were joined by name, a segment's part
// in the story stood in its note, a change of state was "OLD → NEW", and modes, port and what a stream lost in all were not told.
// Their words will not change any more, so here, and only here, they are read.

// upgrade fills in what the header of schema 1 left out. The port is not known.
func (h *Header) upgrade() {
	h.Modes = []Mode{
		{Name: "off", Doc: "no migration: the kernel's default", Advice: "What may save it is migration: the sysctl net.ipv4.tcp_migrate_req=1 (Linux 5.14), or a BPF program. " +
			"Migration needs another listener of the same reuseport group in LISTEN when the old one closes."},
		{Name: "sysctl", Doc: "net.ipv4.tcp_migrate_req=1: the kernel picks the new listener by hash", Saves: "the sysctl net.ipv4.tcp_migrate_req=1"},
		{Name: "bpf", Doc: "a migrate program picks the new listener", Saves: "a BPF program that selects the new listener"},
		{Name: "bpf-pass", Doc: "a migrate program leaves the pick to the kernel", Saves: "a BPF program that leaves the choice to the kernel"},
		{Name: "bpf-drop", Doc: "a migrate program refuses", Advice: "The program refused (SK_DROP). One that returns SK_PASS would have let the connection migrate."},
		{Name: "bpf-select", Doc: "a program attached as plain SELECT: the kernel does not ask it to migrate", Advice: "The program is attached as plain SELECT, which takes no part in migration: attach it as SELECT_OR_MIGRATE."},
	}
}

// parseSchema1 reads a cell of schema 1.
func (c *Cell) parseSchema1(line []byte) error {
	type reset struct {
		Reset
		Step string `json:"step"`
	}
	type table struct {
		Table
		Step string `json:"step"`
	}
	type cell Cell // without methods
	old := struct {
		*cell
		Resets []reset `json:"resets"`
		Tables []table `json:"tables"`
	}{cell: (*cell)(c)}
	if err := json.Unmarshal(line, &old); err != nil {
		return err
	}
	for _, r := range old.Resets {
		r.Reset.Step = 0
		for i, s := range c.Steps { // the last of the name that had begun
			if s.Name == r.Step && s.At <= r.Time {
				r.Reset.Step = i + 1
			}
		}
		c.Resets = append(c.Resets, r.Reset)
	}
	from := 0
	for _, t := range old.Tables {
		t.Table.Step = 0
		for i := from; i < len(c.Steps); i++ {
			// Only the last step of a name is left where the name comes again before the table was made.
			if c.Steps[i].Name == t.Step && (i+1 == len(c.Steps) || c.Steps[i+1].Name != t.Step || t.At < c.Steps[i+1].At) {
				t.Table.Step, from = i+1, i
				break
			}
		}
		c.Tables = append(c.Tables, t.Table)
	}
	if c.Stream != nil { // it told the losses by their resets alone
		c.Stream.Lost = c.Connections.Lost
	}
	for i := range c.Flow {
		c.Flow[i].readNote()
	}
	for i := range c.Events {
		e := &c.Events[i]
		if was, is, change := strings.Cut(e.State, " → "); change {
			e.Old, e.State = was, is
		}
	}
	return nil
}

// readNote reads a segment's part in the story from its note, and from its text where there is none.
func (s *Segment) readNote() {
	s.Dropped = strings.Contains(s.Note, "dropped by the ")
	s.Again = strings.Contains(s.Note, "retransmits")
	flags, _, _ := strings.Cut(s.Text, " ")
	has := func(flag string) bool { return strings.Contains(flags, flag) }
	switch {
	case has("R"):
		s.Role = RoleReset
	case has("S") && has("."):
		s.Role = RoleSYNACK
	case has("S"):
		s.Role = RoleSYN
	case has("F"):
		s.Role = RoleFIN
	case strings.Contains(s.Text, ":"): // seq 1:12
		s.Role = RoleData
	case strings.HasPrefix(s.Note, "the final ACK of the handshake"):
		s.Role = RoleHandshakeACK
	case has("."):
		s.Role = RoleACK
	default:
		s.Role = RoleOther
	}
}
