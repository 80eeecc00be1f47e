package spanpost

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
)

// ErrInvalidQuestion is wrapped by the error of a question that cannot be asked.
var ErrInvalidQuestion = errors.New("the question cannot be asked")

// ErrQuestionTooLong is wrapped by the error of a question that is too long to show people all of it.
var ErrQuestionTooLong = fmt.Errorf("%w: too long", ErrInvalidQuestion)

// AtExpiry says what happens when the deadline of a question passes.
type AtExpiry string

// The question stays open; counts as denied; is posted once more as urgent; or ends without a decision.
const (
	Wait     AtExpiry = "wait"
	Deny     AtExpiry = "deny"
	Escalate AtExpiry = "escalate"
	Expire   AtExpiry = "expire"
)

// Question has the parts of a question besides its text. All of them are optional.
type Question struct {
	// ID names the decision within your tenant; without one the question belongs to this call alone.
	ID string
	// Options to choose from, in place of approve and deny.
	Options []string
	Detail  string
	Risk    string
	// Tool is the name of the tool that it asks for: people may grant it a standing approval.
	Tool string
	// Needs is the number of different people who must approve; 0: one.
	Needs int
	// To says who is asked, one after the other; each has ToAfter before the next is asked.
	To      []string
	ToAfter time.Duration
	// ExpiresIn is the deadline from now; ExpiresAt is the same as a moment.
	ExpiresIn time.Duration
	ExpiresAt time.Time
	// AtExpiry is left empty for the setting of spanpost.
	AtExpiry AtExpiry
	// Client asks; nil: the gateway of the environment.
	Client *Client
}

// asked is a question that was checked.
type asked struct {
	id, text, mark string
	// options maps each option as it is asked to the agent's own text.
	options    map[string]string
	attributes []attribute.KeyValue
	at         time.Time
}

func newAsked(question string, given Question) (*asked, error) {
	if trim(question) == "" {
		return nil, fmt.Errorf("%w: it is empty; say what a person is to decide", ErrInvalidQuestion)
	}
	if given.ID != "" && trim(given.ID) == "" {
		return nil, fmt.Errorf("%w: the id is empty; leave it out, or name the decision", ErrInvalidQuestion)
	}
	options, texts, err := checkedOptions(given.Options)
	if err != nil {
		return nil, err
	}
	q := &asked{id: questionText(given.ID), options: options, at: time.Now()}
	if q.id == "" {
		q.id = newID()
	}
	if q.text, err = limited("question", question, questionLimit); err != nil {
		return nil, err
	}
	detail, err := limited("detail", given.Detail, questionLimit)
	if err != nil {
		return nil, err
	}
	risk, err := limited("risk", given.Risk, optionLimit)
	if err != nil {
		return nil, err
	}
	tool, err := limited("tool", given.Tool, optionLimit)
	if err != nil {
		return nil, err
	}
	q.mark = questionMark(q.text, detail, texts, risk, tool)
	until := given.ExpiresAt
	if given.ExpiresIn < 0 {
		return nil, fmt.Errorf("%w: ExpiresIn must be more than 0", ErrInvalidQuestion)
	}
	if until.IsZero() && given.ExpiresIn > 0 {
		until = q.at.Add(given.ExpiresIn)
	}
	expiresAt := ""
	if !until.IsZero() {
		expiresAt = until.UTC().Format(time.RFC3339Nano)
	}
	q.attributes = texted(
		attrApprovalID, q.id, attrQuestion, q.text, attrDetail, detail, attrRisk, risk,
		attrTool, tool, attrExpiresAt, expiresAt, attrAtExpiry, string(given.AtExpiry), attrDigest, q.mark,
	)
	if len(texts) > 0 {
		q.attributes = append(q.attributes, attribute.StringSlice(attrOptions, texts))
	}
	if given.Needs > 1 {
		q.attributes = append(q.attributes, attribute.Int(attrNeeds, given.Needs))
	}
	if len(given.To) > 0 {
		q.attributes = append(q.attributes, attribute.StringSlice(attrTo, given.To))
	}
	if given.ToAfter > 0 {
		q.attributes = append(q.attributes, attribute.Float64(attrToAfter, given.ToAfter.Seconds()))
	}
	return q, nil
}

// QuestionMark returns the mark of a question: SHA-256, in hex, of its texts as canonical JSON
// (docs/reference/control.md).
func QuestionMark(question, detail string, options []string, risk string) string {
	return questionMark(question, detail, options, risk, "")
}

func questionMark(question, detail string, options []string, risk, tool string) string {
	var b strings.Builder
	b.WriteByte('[')
	writeJSON(&b, questionText(question))
	b.WriteByte(',')
	writeJSON(&b, questionText(detail))
	b.WriteString(",[")
	isFirst := true
	for _, option := range options {
		if option = trim(questionText(option)); option == "" {
			continue
		}
		if !isFirst {
			b.WriteByte(',')
		}
		isFirst = false
		writeJSON(&b, option)
	}
	b.WriteString("],")
	writeJSON(&b, questionText(risk))
	if tool != "" {
		b.WriteByte(',')
		writeJSON(&b, questionText(tool))
	}
	b.WriteByte(']')
	sum := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(sum[:])
}

// writeJSON writes a text as RFC 8785 has it. The escapes of encoding/json are others.
func writeJSON(b *strings.Builder, text string) {
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\b':
			b.WriteString(`\b`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\f':
			b.WriteString(`\f`)
		case r == '\r':
			b.WriteString(`\r`)
		case r < 0x20:
			fmt.Fprintf(b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
}

// questionText returns a text as every receiver keeps it: U+0000 is U+2400, and what is no UTF-8 is U+FFFD.
func questionText(text string) string {
	if utf8.ValidString(text) {
		return strings.ReplaceAll(text, "\x00", "\u2400")
	}
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		if r == utf8.RuneError && size == 1 && isSurrogate(text) {
			size = 3
		}
		if r == 0 {
			r = '\u2400'
		}
		b.WriteRune(r)
		text = text[size:]
	}
	return b.String()
}

// isSurrogate reports whether a text begins with the three bytes of a lone surrogate.
func isSurrogate(text string) bool {
	return len(text) >= 3 && text[0] == 0xed && text[1] >= 0xa0 && text[1] <= 0xbf && text[2] >= 0x80 && text[2] <= 0xbf
}

// trim removes white space as the gateway does: strings.TrimSpace and the four separators of ASCII.
func trim(text string) string {
	return strings.TrimFunc(text, func(r rune) bool {
		switch {
		case r >= '\t' && r <= '\r', r >= 0x1c && r <= ' ', r == 0x85, r == 0xa0, r == 0x1680:
			return true
		case r >= 0x2000 && r <= 0x200a, r == 0x2028, r == 0x2029, r == 0x202f, r == 0x205f, r == 0x3000:
			return true
		}
		return false
	})
}

func limited(name, given string, most int) (string, error) {
	text := questionText(given)
	if n := utf8.RuneCountInString(text); n > most {
		return "", fmt.Errorf(
			"%w: the %s has %d characters, and people can be shown %d; shorten it", ErrQuestionTooLong, name, n, most)
	}
	return text, nil
}

func checkedOptions(given []string) (map[string]string, []string, error) {
	options, texts := map[string]string{}, make([]string, 0, len(given))
	for _, own := range given {
		text := trim(questionText(own))
		if text == "expired" {
			return nil, nil, fmt.Errorf(
				"%w: 'expired' is the answer when a deadline passes; name the option otherwise", ErrInvalidQuestion)
		}
		if _, isKnown := options[text]; isKnown || text == "" || utf8.RuneCountInString(text) > optionLimit {
			return nil, nil, errOptions
		}
		options[text] = own
		texts = append(texts, text)
	}
	if len(texts) > optionsLimit {
		return nil, nil, errOptions
	}
	return options, texts, nil
}

var errOptions = fmt.Errorf(
	"%w: options are up to %d different texts of 1 to %d characters", ErrInvalidQuestion, optionsLimit, optionLimit)

// newID returns a random UUID.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// texted returns attributes of names and texts; an empty text is left out.
func texted(pairs ...string) []attribute.KeyValue {
	var found []attribute.KeyValue
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			found = append(found, attribute.String(pairs[i], pairs[i+1]))
		}
	}
	return found
}
