package result

// Before tells whether a run's kernel is older than a release of Linux, such as "5.14", by the release that it was made of or else
// by what it calls itself. It is not known where neither says, and of a release's candidates.
func (h *Header) Before(release string) (before, known bool) {
	want, err := parseVersion(release)
	if err != nil {
		return false, false
	}
	have, err := parseVersion(h.Upstream)
	if err != nil {
		if have, err = parseVersion(startsWithVersion.FindString(h.Kernel)); err != nil {
			return false, false
		}
	}
	return have.compare(want) < 0, !have.couldBe(want)
}
