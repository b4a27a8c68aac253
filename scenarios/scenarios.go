// Package scenarios is the list of cases that rpmig can play, one file a case.
package scenarios

import (
	"slices"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// All returns every scenario, in the order of the talk.
func All() []lab.Scenario {
	return slices.Concat(
		[]lab.Scenario{addrInUse},
		sharedListeners,
		[]lab.Scenario{
			spread, spreadFewPorts,
			quiz1,
			quiz2,
			fastopen,
			synackTimer,
			drainQuiz1, drainQuiz2,
			fdPassQuiz1, fdPassQuiz2,
			bpfDrain,
			lastListenerQuiz1, lastListenerQuiz2,
			lateListenerQuiz1, lateListenerQuiz2,
		},
		saveSYNScenarios(),
		[]lab.Scenario{optionsQueue, optionsACK, optionsTimer},
		keyScenarios(),
		[]lab.Scenario{
			synPolicy, classicBPFRenumbered,
			groupGrowBefore, groupGrowAfter,
			hotReloadPlain, hotReloadDrain, hotReloadFDPass, hotReloadBPFDrain,
		},
		selftest(),
		closeBy(),
		[]lab.Scenario{
			storm,
			relisten,
			chainQuiz1, chainQuiz2, chainTimer,
			wakeupEpoll, wakeupAccept,
			fastOpenQuota,
			backlogFullQueue, backlogFullHashdance, backlogFullTimer, overflowAbortQueue,
		},
		wrongProgramScenarios(),
		[]lab.Scenario{
			sysctlFlipInTimeQuiz1, sysctlFlipInTimeQuiz2, sysctlFlipOn, sysctlFlipOff,
			syncookies,
		},
		deferAccept,
		otherGroupScenarios(),
		[]lab.Scenario{
			cpuAffinityQuiz1, cpuAffinityQuiz2,
			skLookupQuiz1, skLookupQuiz2, skLookupMoved, skLookupDrainAlone, skLookupDrainGroup,
			tcAssignQuiz1, tcAssignQuiz2,
		},
		clientStateScenarios(),
		[]lab.Scenario{
			bigPayload,
			passClosedUnreadQuiz1, passClosedUnreadQuiz2,
			leakedListener, shutdownFirst, closeInAccept,
			listenZeroDrain, reuseportOffDrain, reuseportOffDrainIPv6,
		},
	)
}

// mainModes are enough for a variation of a case that another scenario plays in every mode.
var mainModes = []string{"off", "sysctl", "bpf"}

// migrating are the modes in which connections migrate.
var migrating = lab.ModesIn(func(m lab.Mode) bool { return m.Migrates })

// migrates is the expectation of a case in which only migration saves a connection. A lost one is reset with the given
// flavour. estabResets is how much EstabResets grows then for both ends, since client and server share the namespace. A
// bare RST answers a stray segment, for which the kernel looks up a listener first.
func migrates(flavour result.Flavour, estabResets int) func(lab.Mode) verdict.Expectation {
	return func(m lab.Mode) verdict.Expectation {
		e := verdict.Expectation{Lives: m.Migrates, Counted: map[string]int{
			result.MigrateSuccess: 0, result.MigrateFailure: 0, result.OutRsts: 0, result.EstabResets: 0,
		}}
		if m.Asks && m.HasProgram() {
			e.Asked = 1
		}
		switch {
		case e.Lives:
			e.Counted[result.MigrateSuccess], e.Migrations = 1, 1
		case m.Asks:
			e.Counted[result.MigrateFailure] = 1
		}
		if !e.Lives {
			e.Flavour, e.Owner, e.Reason = flavour, result.ClosingListener, "TCP_STATE"
			if flavour == result.BareRST {
				e.Strays, e.Owner, e.Reason = 1, result.SurvivingListener, "TCP_FLAGS"
			}
			e.Counted[result.OutRsts] = 1
			e.Counted[result.EstabResets] = estabResets
		}
		return e
	}
}
