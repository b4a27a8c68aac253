// Command same tells whether two runs of rpmig came to the same results, for a change that is to leave them alone:
//
//	go run ./bench/same OLD NEW [OLD NEW]...
//
// Each pair is two folders of rpmig run --out. What is in the old one only is printed behind "-", what is in the new one only
// behind "+", each with the cells it is said of. The exit status is 0 if nothing differs, 1 if something does, 2 if a file cannot
// be read. -rename 'OLD=NEW' replaces a text in the old one first, for a change that renames a step or a check on purpose.
//
// Of each cell it compares status, reason, control, bug, connections, the
// checks, the steps, the resets with their steps and owners, the segments of the connection that is drawn, the socket tables, the
// counters that verdicts know by name, the program's counts, and the namespace; of a run also which events its trace told of, and
// which files are in its folder. Runs of one binary on one kernel differ in the following, and it is masked for that reason:
//
//   - times, ports that the kernel picks, cookies, inodes, and what is ordered by them: sockets in a table, cells in a ledger;
//   - numbers of frames, which a delayed ACK or one more retransmission moves. Of the connection that is drawn each segment
//     counts once; pure ACKs, and data that is sent again together with a FIN, do not count;
//   - counters that no verdict knows by name;
//   - what leans on the trace, in a cell where it has lost events in either run;
//   - what a hash picks: a listener of a numbered group, how the selftest's clients spread over its servers, which sockets do
//     not fit into a table, and the p-value of a spread, which stands in parentheses; and the CPU of a case that stays on one;
//   - during which of two steps a timer fired, where one of them is "stop dropping", which lets it be heard;
//   - amounts in a cell with a stream of clients: as many come as there is time for.
//
// To compare reports, make them with both binaries from one ledger, by rpmig report: there, diff will do.
package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	renames := renaming{}
	flag.Var(&renames, "rename", "replace a text in the old one: `OLD=NEW`; may be repeated")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: same [-rename OLD=NEW]... OLD NEW [OLD NEW]...\nEach pair is two folders of rpmig run --out.")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 || flag.NArg()%2 != 0 {
		flag.Usage()
		os.Exit(2)
	}
	status := 0
	for pair := range slices.Chunk(flag.Args(), 2) {
		differences, err := compare(pair[0], pair[1], strings.NewReplacer(renames...))
		if err != nil {
			fmt.Fprintf(os.Stderr, "same: error: %v\n", err)
			os.Exit(2)
		}
		fmt.Printf("%s and %s: ", pair[0], pair[1])
		if len(differences) == 0 {
			fmt.Println("the same")
			continue
		}
		fmt.Printf("%d differences\n", len(differences))
		for _, d := range differences {
			fmt.Println(d)
		}
		status = 1
	}
	os.Exit(status)
}

// renaming is pairs of old and new, as strings.NewReplacer takes them.
type renaming []string

func (r *renaming) String() string { return strings.Join(*r, " ") }

func (r *renaming) Set(s string) error {
	before, after, ok := strings.Cut(s, "=")
	if !ok || before == "" {
		return fmt.Errorf("want OLD=NEW")
	}
	*r = append(*r, before, after)
	return nil
}

// said is what is said, and of which cells.
type said map[string][]string

// add notes that something is said of a place.
func (s said) add(fact, place string) {
	if !slices.Contains(s[fact], place) {
		s[fact] = append(s[fact], place)
	}
}

// differences lists what is in one of two only.
func differences(gone, come said) []string {
	var list []string
	for _, side := range []struct {
		sign string
		said said
	}{{"-", gone}, {"+", come}} {
		facts := slices.Sorted(maps.Keys(side.said))
		slices.SortStableFunc(facts, func(a, b string) int { return len(side.said[b]) - len(side.said[a]) })
		for _, fact := range facts {
			list = append(list, fmt.Sprintf("%s %s\n      %s", side.sign, fact, several(side.said[fact])))
		}
	}
	return list
}

// several names the first places of a list, and says how many there are.
func several(places []string) string {
	const most = 3
	slices.Sort(places)
	if len(places) <= most {
		return strings.Join(places, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(places[:most], ", "), len(places)-most)
}

// files lists the files below a folder, with slashes.
func files(folder string) (map[string]bool, error) {
	found := map[string]bool{}
	err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found[filepath.ToSlash(strings.TrimPrefix(path, filepath.Clean(folder)+string(filepath.Separator)))] = true
		}
		return err
	})
	return found, err
}
