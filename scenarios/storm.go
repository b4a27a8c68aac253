package scenarios

import (
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

const (
	stormListeners = 8  // besides the one that stays
	stormRounds    = 40 // of closing and opening
	stormServed    = 3  // clients that are served in a round, at least
)

const (
	migrationsFact = "migrations that were done"
	refusedFact    = "migrations that were refused"
)

// storm is many listeners that come and go at the same time, where a migration may meet a listener that closes too. Its loss was
// 304705 to 340093 per million without migration, and 103 to 1607 with it, measured as that of the hot reloads.
var storm = lab.Scenario{
	Name:    "storm",
	Section: lab.SectionBeyond,
	Doc: `many listeners open and close at random under a stream of clients

Four clients connect, are served and connect again, as fast as they can.
Beside a listener that stays, eight others open and close at random, several
of them at once on two threads, with a client in the queue of one at least.
Without migration at least one connection in ten is lost, and with it no more
than one in a hundred: three races are left. The listener that was picked may
close between the pick and inet_csk_reqsk_queue_add, which counts as a
failure; a program that picks the listener that stays has none of these. The
listener of a final ACK may close while that is handled on another CPU: the
child is reset, and nothing is counted. Or it has begun to close, and the
child inherits its sk_shutdown: that migrates, and the client reads the end of
a stream that has not begun. The random numbers are those of the repeat's
number, whatever the mode.`,
	Path: "inet_csk_listen_stop, inet_csk_complete_hashdance → inet_csk_reqsk_queue_add",
	Busy: true,
	// All of them, and both ends of each client's connection.
	Listeners: stormListeners + 1 + 9,
	Frames:    16 * (stormRounds*3*stormServed + 1000),
	Play: func(l *lab.Lab) {
		l.Storm(stormListeners, stormRounds, stormServed)
		l.Fact(migrationsFact, some(l.Counter(result.MigrateSuccess)))
		l.Fact(refusedFact, some(l.Counter(result.MigrateFailure)))
	},
	Expect: func(m lab.Mode) verdict.Expectation {
		e := verdict.Expectation{Lives: true, Loss: closed, Facts: map[string]any{migrationsFact: "none"}}
		if m.Migrates {
			e.Loss, e.Facts[migrationsFact] = gap, "some"
		}
		switch {
		case !m.Asks:
			e.Facts[refusedFact] = "none"
		case !m.Migrates:
			e.Facts[refusedFact] = "some"
		case m.HasProgram() && m.Answer == lab.Choose: // it picks the listener that stays
			e.Facts[refusedFact] = "none"
		}
		return e
	},
}

// some is a count without its number.
func some(n int) string {
	if n == 0 {
		return "none"
	}
	return "some"
}
