package result

import (
	"fmt"
	"math"
	"strings"
)

// Stream is what a server that reloads and its clients saw.
type Stream struct {
	Reloads     int `json:"reloads"`     // how often listeners were closed
	Connections int `json:"connections"` // by clients, each of which sent something and waited for it to come back
	Refused     int `json:"refused"`     // failed while connecting
	Lost        int `json:"lost"`        // were connected, and did not get their reply
	Losses
	AtStake     int `json:"at_stake"`     // in the old listener's accept queue when it was retired, summed up
	Drained     int `json:"drained"`      // accepted from an old listener's queue before it was closed, summed up
	InQueue     int `json:"in_queue"`     // ended by an RST+ACK of the server: in an accept queue, or about to be put there
	InHandshake int `json:"in_handshake"` // ended by a bare RST: the handshake was not done for the server
	// PerMillion is how many of a million connections were lost, Low and High its 95 % confidence interval.
	PerMillion float64 `json:"per_million"`
	Low        float64 `json:"low"`
	High       float64 `json:"high"`
	// Least and Most are how many of a million may be lost, as the scenario says; nil in ledgers of older versions.
	Least    *float64 `json:"least,omitempty"`
	Most     *float64 `json:"most,omitempty"`
	Lingered float64  `json:"lingered"` // seconds that an old listener was kept beside the new one, on average
}

// Losses are the connections that failed, by what their clients saw: the sum of Refused and Lost. Ledgers of older versions
// do not have them.
type Losses struct {
	ConnectionRefused int `json:"connection_refused,omitempty"` // ECONNREFUSED: nobody listened
	ResetInConnect    int `json:"reset_in_connect,omitempty"`   // ECONNRESET before connect(2) was done
	Reset             int `json:"reset,omitempty"`              // ECONNRESET after that, before the reply was there
	EmptyReply        int `json:"empty_reply,omitempty"`        // EOF without a byte: the server closed, and its kernel did not reset
	ClosedEarly       int `json:"closed_early,omitempty"`       // EOF after a part of the reply
	TimedOut          int `json:"timed_out,omitempty"`          // nothing came
	WrongReply        int `json:"wrong_reply,omitempty"`        // something else than what was sent
}

// lossClass is a class of Losses in words.
type lossClass struct {
	name  string
	count *int
}

// classes are all of them, in the order of a connection's life.
func (l *Losses) classes() []lossClass {
	return []lossClass{
		{"refused", &l.ConnectionRefused}, {"reset in connect", &l.ResetInConnect}, {"reset before a reply", &l.Reset},
		{"empty replies", &l.EmptyReply}, {"closed early", &l.ClosedEarly}, {"timed out", &l.TimedOut}, {"wrong replies", &l.WrongReply},
	}
}

// String says how many were lost in which way: "reset in connect 6, empty replies 1"; "none" where there are none.
func (l Losses) String() string {
	var parts []string
	for _, c := range l.classes() {
		if *c.count > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", c.name, *c.count))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// OnWire is how many of them ended by a reset of the server: these the wire must show, and no others.
func (l Losses) OnWire() int { return l.ConnectionRefused + l.ResetInConnect + l.Reset }

// Failed is how many connections were lost in all.
func (s *Stream) Failed() int { return s.Lost + s.Refused }

// Estimate sets the loss per million connections and its confidence interval.
func (s *Stream) Estimate() { s.estimate(1) }

// estimate takes that many connections for one, where losses come together.
func (s *Stream) estimate(together float64) {
	s.PerMillion = 0
	if s.Connections > 0 {
		s.PerMillion = float64(s.Failed()) / float64(s.Connections) * 1e6
	}
	const z = 1.96 // 95 %
	s.Low, s.High = wilson(float64(s.Failed())/together, float64(s.Connections)/together, z)
}

// String is the stream in a sentence.
func (s *Stream) String() string {
	lost := "none lost"
	if n := s.Failed(); n > 0 {
		lost = fmt.Sprintf("%d lost, %d by RST+ACK and %d by a bare RST", n, s.InQueue, s.InHandshake)
	}
	if s.Losses != (Losses{}) {
		lost += " (" + s.Losses.String() + ")"
	}
	said := fmt.Sprintf("%d connections over %d reloads: %s, %.0f per million (%.0f to %.0f)",
		s.Connections, s.Reloads, lost, s.PerMillion, s.Low, s.High)
	if s.Lingered >= 0.0001 {
		said += fmt.Sprintf("; the old listener lingered %.4f s each time", s.Lingered)
	}
	return said
}

// Pool is the streams of many repeats of a cell together. It does not keep them.
type Pool struct {
	Stream  // the sums, and the estimate of all
	Repeats int

	lost2, lostOf, of2 float64 // sums over the repeats, of the products of the lost and the connections
}

// Add adds the stream of another repeat.
func (p *Pool) Add(s *Stream) {
	p.Lingered = (p.Lingered*float64(p.Reloads) + s.Lingered*float64(s.Reloads)) / float64(max(p.Reloads+s.Reloads, 1))
	for _, sum := range []struct {
		of *int
		n  int
	}{
		{&p.Reloads, s.Reloads}, {&p.Connections, s.Connections}, {&p.Refused, s.Refused}, {&p.Lost, s.Lost}, {&p.AtStake, s.AtStake},
		{&p.Drained, s.Drained}, {&p.InQueue, s.InQueue}, {&p.InHandshake, s.InHandshake}, {&p.Repeats, 1},
	} {
		*sum.of += sum.n
	}
	theirs := s.classes()
	for i, c := range p.classes() {
		*c.count += *theirs[i].count
	}
	p.Least, p.Most = s.Least, s.Most
	k, n := float64(s.Failed()), float64(s.Connections)
	p.lost2, p.lostOf, p.of2 = p.lost2+k*k, p.lostOf+k*n, p.of2+n*n
	p.estimate(p.together())
}

// together is how many connections count as one, because the losses of a repeat come together: by how much the repeats
// differ more than they would if each connection was lost by itself (Rao and Scott 1992, "A simple method for the analysis
// of clustered binary data", Biometrics 48). It is never less than 1.
func (p *Pool) together() float64 {
	m, n, k := float64(p.Repeats), float64(p.Connections), float64(p.Failed())
	if m < 2 || k == 0 || k == n {
		return 1
	}
	rate := k / n
	between := m / (m - 1) * (p.lost2 - 2*rate*p.lostOf + rate*rate*p.of2) / (n * n)
	return max(between/(rate*(1-rate)/n), 1)
}

// falseAlarm is the chance that a stream is told to be beyond a bound that its rate does not pass. It is small: a run asks this
// of hundreds of cells, and of a pool after each repeat.
const falseAlarm = 1e-6

// Bound is what a stream tells of the bounds within which a loss should be.
type Bound string

// The answers.
const (
	Within  Bound = "within"
	Beyond  Bound = "beyond"
	Unknown Bound = "too few" // its interval has a bound in it
)

// Surely returns the interval per million in which the loss surely is: but for one chance in a million on either side.
func (s *Stream) Surely() (low, high float64) {
	return surely(float64(s.Failed()), float64(s.Connections))
}

// Surely is that of all repeats.
func (p *Pool) Surely() (low, high float64) { return p.surely(1) }

// surely is what it would be after so many times as many repeats that are like these.
func (p *Pool) surely(times float64) (low, high float64) {
	d := p.together()
	return surely(float64(p.Failed())*times/d, float64(p.Connections)*times/d)
}

// Against holds an interval against bounds. It is beyond them only as a whole, so that few connections prove nothing.
func Against(low, high, least, most float64) Bound {
	switch {
	case low > most || high < least:
		return Beyond
	case low >= least && high <= most:
		return Within
	default:
		return Unknown
	}
}

// RepeatsToTell is how many repeats that are like these would tell on which side of the bounds the loss is; 0: too many.
func (p *Pool) RepeatsToTell(least, most float64) int {
	const enough, mostRepeats = 4, 1e6
	n := float64(p.Connections) / p.together()
	// By the score test that Wilson's interval inverts; this is near it, and the exact one is asked.
	near := 1.0
	for _, bound := range []float64{least / 1e6, most / 1e6} {
		off := bound - p.PerMillion/1e6
		if off != 0 {
			near = max(near, quantile*quantile*bound*(1-bound)/(off*off)/n)
		} else if n > 0 && bound > 0 {
			return 0
		}
	}
	for times := max(near/enough, 1.1); times <= near*enough && times*float64(p.Repeats) <= mostRepeats; times *= 1.1 {
		low, high := p.surely(times)
		if Against(low, high, least, most) != Unknown {
			return int(math.Ceil(times * float64(p.Repeats)))
		}
	}
	return 0
}

// wilson is the interval of k of n, per million, after Wilson (1927, "Probable inference, the law of succession, and statistical
// inference", J. Am. Stat. Assoc. 22), of so many standard deviations.
func wilson(k, n, z float64) (low, high float64) {
	if n == 0 {
		return 0, 1e6
	}
	p := k / n
	mid := (p + z*z/(2*n)) / (1 + z*z/n)
	half := z / (1 + z*z/n) * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return max(mid-half, 0) * 1e6, min(mid+half, 1) * 1e6
}

// quantile is how many standard deviations falseAlarm is.
const quantile = 4.753

// surely is the interval of k of n after Clopper and Pearson (1934, "The use of confidence or fiducial limits illustrated in
// the case of the binomial", Biometrika 26), per million. That of Wilson is no good so far out, but where there are many.
func surely(k, n float64) (low, high float64) {
	const many = 1e4
	switch {
	case !(k >= 0 && k <= n): // nobody counted that
		return 0, 1e6
	case k > many && n-k > many:
		return wilson(k, n, quantile)
	}
	low, high = 0, 1e6
	if k > 0 { // the rate of which so many or more are that rare
		low = root(func(p float64) bool { return beta(p, k, n-k+1) < falseAlarm })
	}
	if k < n { // the rate of which so few or fewer are
		high = root(func(p float64) bool { return beta(1-p, n-k, k+1) > falseAlarm })
	}
	return low, high
}

// root is where something ceases to hold between 0 and 1, per million.
func root(holds func(p float64) bool) float64 {
	from, to := 0.0, 1.0
	for range 50 {
		if mid := (from + to) / 2; holds(mid) {
			from = mid
		} else {
			to = mid
		}
	}
	return (from + to) / 2 * 1e6 // more than 0, however little
}

// beta is the regularized incomplete beta function: the chance that of a+b-1 connections a or more are lost, if each is by the
// chance x. The continued fraction is that of the Digital Library of Mathematical Functions, 8.17.22, after Lentz.
func beta(x, a, b float64) float64 {
	switch {
	case x <= 0:
		return 0
	case x >= 1:
		return 1
	case x > (a+1)/(a+b+2): // where it converges faster
		return 1 - beta(1-x, b, a)
	}
	const tiny, enough, most = 1e-300, 1e-12, 10_000
	nonzero := func(f float64) float64 {
		if math.Abs(f) < tiny {
			return tiny
		}
		return f
	}
	f, c, d := 1.0, 1.0, 0.0
	for i := range most {
		m := float64(i / 2)
		var numerator float64
		switch {
		case i == 0:
			numerator = 1
		case i%2 == 0:
			numerator = m * (b - m) * x / ((a + 2*m - 1) * (a + 2*m))
		default:
			numerator = -(a + m) * (a + b + m) * x / ((a + 2*m) * (a + 2*m + 1))
		}
		d = 1 / nonzero(1+numerator*d)
		c = nonzero(1 + numerator/c)
		f *= c * d
		if math.Abs(1-c*d) < enough {
			break
		}
	}
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	return math.Exp(lab-la-lb+a*math.Log(x)+b*math.Log1p(-x)) / a * (f - 1)
}
