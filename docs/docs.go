// Package docs holds what was measured when the documentation was made last, beside the documentation itself.
package docs

import (
	_ "embed"
	"encoding/json"
	"fmt"
)

// Measured is what one run of the catalogue showed.
type Measured struct {
	Kernel    string              `json:"kernel"`
	Scenarios map[string]Scenario `json:"scenarios"`
}

// Scenario is what was seen of one scenario, in the first of its families.
type Scenario struct {
	Cells   []Cell `json:"cells"`
	Drawn   string `json:"drawn"`   // mode of the drawing
	Drawing string `json:"drawing"` // one connection as a timeline
}

// Cell is what was seen in one mode.
type Cell struct {
	Mode   string `json:"mode"`
	Fact   string `json:"fact"`
	Status string `json:"status"`
}

//go:embed measured.json
var measured []byte

// Read returns what was measured last.
func Read() (Measured, error) {
	var m Measured
	if err := json.Unmarshal(measured, &m); err != nil {
		return m, fmt.Errorf("docs/measured.json: %w", err)
	}
	return m, nil
}
