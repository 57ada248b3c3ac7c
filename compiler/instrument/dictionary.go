package instrument

// Dictionary tells what every probe of a module stands for. It is the same
// structure as `Dictionary` in src/policy/dictionary.ts, which documents it.
type Dictionary struct {
	Version int         `json:"v"`
	Rules   []RuleProbe `json:"rules"`
	Exprs   []ExprProbe `json:"exprs"`
}

// RuleProbe is one definition of a rule, or one branch of its else chain.
type RuleProbe struct {
	ID       int      `json:"id"`
	Kind     string   `json:"kind"` // rule | else | fact
	Path     string   `json:"path"`
	Title    *string  `json:"title"`
	File     string   `json:"file"`
	Row      int      `json:"row"`
	Col      int      `json:"col"`
	Text     string   `json:"text"`
	Args     []string `json:"args"`
	Outs     int      `json:"outs"`
	Constant *string  `json:"constant"`
	Body     []int    `json:"body"`
	Head     []Part   `json:"head"`
}

// ExprProbe is one expression of a body, or the beginning of a closure's body.
type ExprProbe struct {
	ID          int      `json:"id"`
	Rule        int      `json:"rule"`
	File        string   `json:"file"`
	Row         int      `json:"row"`
	Col         int      `json:"col"`
	Text        string   `json:"text"`
	Vars        []string `json:"vars"`
	Negated     bool     `json:"negated"`
	Begin       bool     `json:"begin"`
	Reads       []Read   `json:"reads"`
	WithTargets []string `json:"withTargets"`
	Parts       []Part   `json:"parts"`
}

// Part is a body inside an expression or a head: a closure (Body and Heads) or
// an `and`/`or` (Lhs and Rhs).
type Part struct {
	Kind  string `json:"kind"` // comprehension | every | not | operand | and | or
	Body  []int  `json:"body,omitzero"`
	Heads []Part `json:"heads,omitzero"`
	Lhs   []Part `json:"lhs,omitzero"`
	Rhs   []Part `json:"rhs,omitzero"`
}

// Read is a reference an expression reads.
type Read struct {
	Text string `json:"text"`
	Root any    `json:"root"` // "input", "data", Variable or *Document
	Path []any  `json:"path"` // string, json.Number, Variable or nil
}

// Variable names a variable of the author's inside a Read.
type Variable struct {
	Var string `json:"var"`
}

// Document is what a rule without arguments is defined as, inside a Read.
type Document struct {
	Rule    string  `json:"rule"`
	Default *string `json:"default"` // its default value as Rego text
}
