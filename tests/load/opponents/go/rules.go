package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const maxScore = 1_000_000_000_000_000

// Board is a ranking; Operator is Increment, Best or Latest.
type Board struct {
	Name     string `json:"name"`
	Operator string `json:"operator"`
}

// Tier begins at MinScore points.
type Tier struct {
	Name     string `json:"name"`
	MinScore int64  `json:"minScore"`
}

// Action is what a client may report and what it is worth.
type Action struct {
	Type       string `json:"type"`
	Points     *int64 `json:"points"`
	PointsFrom *struct {
		Field string `json:"field"`
		Min   *int64 `json:"min"`
		Max   *int64 `json:"max"`
	} `json:"pointsFrom"`
	BoardNames      []string        `json:"boards"`
	MaxPerMinute    int             `json:"maxPerMinute"`
	CooldownSeconds float64         `json:"cooldownSeconds"`
	Schema          json.RawMessage `json:"schema"`

	boards []Board
	limits []Limit
	schema *jsonschema.Schema
}

// Limit allows Count acceptances in any Window.
type Limit struct {
	Policy string
	Count  int
	Window time.Duration
}

// Rules are the compiled rules of a Scoreboard.
type Rules struct {
	actions map[string]*Action
	tiers   []Tier

	tierNames  []string
	tierScores []int64
}

// Award is what a valid action is worth.
type Award struct {
	Type   string
	Points int64
	Boards []Board
	Limits []Limit
}

func parseRules(boardsText, actionsText, tiersText string) (*Rules, error) {
	var boards []Board
	var actions []*Action
	rules := &Rules{actions: map[string]*Action{}}
	for _, each := range []struct {
		text string
		into any
	}{{boardsText, &boards}, {actionsText, &actions}, {tiersText, &rules.tiers}} {
		if err := json.Unmarshal([]byte(each.text), each.into); err != nil {
			return nil, fmt.Errorf("rules: %w", err)
		}
	}
	if len(boards) == 0 {
		boards = []Board{{Name: "default"}}
	}
	for i := range boards {
		boards[i].Operator = cmp.Or(boards[i].Operator, "Increment")
	}
	slices.SortFunc(rules.tiers, func(a, b Tier) int { return cmp.Compare(a.MinScore, b.MinScore) })
	for _, tier := range rules.tiers {
		rules.tierNames, rules.tierScores = append(rules.tierNames, tier.Name), append(rules.tierScores, tier.MinScore)
	}
	for _, action := range actions {
		if err := action.compile(boards); err != nil {
			return nil, fmt.Errorf("action %q: %w", action.Type, err)
		}
		rules.actions[action.Type] = action
	}
	return rules, nil
}

func (a *Action) compile(boards []Board) error {
	if (a.Points == nil) == (a.PointsFrom == nil) {
		return fmt.Errorf("give either points or pointsFrom")
	}
	for _, name := range a.BoardNames {
		i := slices.IndexFunc(boards, func(board Board) bool { return board.Name == name })
		if i < 0 {
			return fmt.Errorf("unknown board %q", name)
		}
		a.boards = append(a.boards, boards[i])
	}
	if len(a.BoardNames) == 0 {
		a.boards = boards
	}
	if a.CooldownSeconds > 0 {
		window := time.Duration(a.CooldownSeconds * float64(time.Second))
		a.limits = append(a.limits, Limit{"cooldown-" + a.Type, 1, window})
	}
	if a.MaxPerMinute > 0 {
		a.limits = append(a.limits, Limit{"action-" + a.Type, a.MaxPerMinute, time.Minute})
	}
	if len(a.Schema) == 0 || string(a.Schema) == "null" {
		return nil
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(string(a.Schema)))
	if err != nil {
		return err
	}
	compiler := jsonschema.NewCompiler()
	if err = compiler.AddResource("action.json", document); err != nil {
		return err
	}
	a.schema, err = compiler.Compile("action.json")
	return err
}

// assess says what an action with this data is worth, or why it is refused.
func (r *Rules) assess(kind string, data any) (*Award, *Refusal) {
	action, known := r.actions[kind]
	if !known {
		return nil, &Refusal{Slug: "unknown-action", Status: 422, Detail: "this action is not known here"}
	}
	if action.schema != nil {
		if err := action.schema.Validate(data); err != nil {
			return nil, invalidData("additionalData does not fit the action's schema")
		}
	}
	award := &Award{kind, 0, action.boards, action.limits}
	if action.Points != nil {
		award.Points = *action.Points
		return award, nil
	}
	from := action.PointsFrom
	lowest, highest := int64(0), int64(maxScore)
	if from.Min != nil {
		lowest = *from.Min
	}
	if from.Max != nil {
		highest = *from.Max
	}
	fields, _ := data.(map[string]any)
	number, isNumber := fields[from.Field].(json.Number)
	value, err := number.Int64()
	if float, floatErr := number.Float64(); err != nil && floatErr == nil && float == math.Trunc(float) {
		value, err = int64(float), nil
	}
	if !isNumber || err != nil || value < lowest || value > highest {
		return nil, invalidData(fmt.Sprintf("%s must be an integer from %d to %d", from.Field, lowest, highest))
	}
	award.Points = value
	return award, nil
}

func invalidData(detail string) *Refusal {
	return &Refusal{Slug: "invalid-action-data", Status: 422, Detail: detail}
}

// tier is the name of the highest tier that score reaches, nil below the lowest.
func (r *Rules) tier(score int64) *string {
	for i := len(r.tiers) - 1; i >= 0; i-- {
		if r.tiers[i].MinScore <= score {
			return &r.tiers[i].Name
		}
	}
	return nil
}
