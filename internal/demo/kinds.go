package demo

import (
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// customer is someone who is called.
type customer struct {
	id, first, name, full, phone string
}

func (s *script) customer() customer {
	first := pick(s.rng, "Asha", "Rajesh", "Meera", "Imran", "Grace", "Oliver", "Wei Ling", "Chloé", "Tomasz", "Zainab", "Noah", "Priya")
	last := pick(s.rng, "Kumar", "Iyer", "Khan", "Bennett", "O’Neill", "Tan", "Dubois", "Nowak", "Okafor", "Sharma", "Clarke", "Menon")
	return customer{
		id:    fmt.Sprintf("C-%05d", s.rng.IntN(100_000)),
		first: first,
		name:  first,
		full:  first + " " + last,
		phone: fmt.Sprintf("+4477009%05d", s.rng.IntN(100_000)),
	}
}

// conversation sets the transcript: the bot and the customer by turns, the bot first.
func (c *call) conversation(turns ...string) {
	transcript := make(bson.A, len(turns))
	for i, text := range turns {
		role := "assistant"
		if i%2 == 1 {
			role = "user"
		}
		transcript[i] = bson.D{
			{Key: "role", Value: role},
			{Key: "content", Value: text},
			{Key: "timestamp", Value: float64(i*c.duration) / float64(len(turns))},
		}
	}
	set(&c.results, "transcript", transcript)
}

// analysed sets what the LLM made of the call, and its quality scores.
func (s *script) analysed(c *call, disposition, sub, remarks string, more ...bson.E) {
	analysis := bson.D{
		{Key: "DISPOSITION", Value: disposition},
		{Key: "SUB_DISPOSITION", Value: sub},
		{Key: "CALLING_REMARKS", Value: remarks},
		{Key: "callback_requested", Value: "no"},
	}
	set(&c.results, "post_call_analysis", append(analysis, more...))
	set(&c.results, "qc_analysis", bson.D{
		{Key: "empathy_score", Value: 3 + s.rng.IntN(3)},
		{Key: "compliance_score", Value: 4 + s.rng.IntN(2)},
		{Key: "overall_score", Value: float64(35+s.rng.IntN(16)) / 10},
		{Key: "remarks", Value: "Polite and to the point."},
	})
}

// promise: a customer will pay, at a date.
func promise(s *script, c *call) {
	amount := 500 * (2 + s.rng.IntN(40))
	date := fmt.Sprintf("%02d December 2026", 1+s.rng.IntN(28))
	set(&c.skeleton, "connected_event.due_amount", fmt.Sprint(amount))
	c.conversation(
		fmt.Sprintf("Good morning, this is Kestrel Bank about your instalment of %d rupees.", amount),
		"Yes, I know. I was travelling.",
		"When could you pay it?",
		"I will pay all of it on "+date+".",
		"Thank you, I have noted "+date+". Goodbye.")
	s.analysed(c, "PTP", "PTP_FULL", "Will pay the full amount on "+date+".",
		bson.E{Key: "promise", Value: bson.D{{Key: "amount", Value: amount}, {Key: "date", Value: date}}})
}

// transfer: a customer will pay, but has a question that a person answers.
func transfer(s *script, c *call) {
	promise(s, c)
	c.conversation(
		"Good morning, this is Kestrel Bank about your instalment.",
		"I will pay it. But can someone explain the late fee to me?",
		"Of course, I put you through to our payments team.")
	set(&c.results, "was_transferred", true)
	set(&c.results, "transfer_destination", "payments team")
	set(&c.results, "transfer_target", "+448000100299")
	set(&c.results, "transfer_reason", "question about the late fee")
	set(&c.results, "transfer_method", "livekit_sip_refer")
	set(&c.results, "transfer_at", float64(c.duration)/2)
	c.showcase = true
}

// voicemail: nobody spoke and nothing was analysed; the outcome is the
// platform's automatic one.
func voicemail(_ *script, c *call) {
	set(&c.results, "status", "voicemail")
	set(&c.results, "disconnected_by", "voicemail")
	c.conversation("Good morning, this is Kestrel Bank. Is this a good time?")
}

// unwanted: the call was placed so that nothing is pushed.
func unwanted(s *script, c *call) {
	promise(s, c)
	set(&c.skeleton, "skip_post_push", true)
}

// handoff: the agent desk's own finished record of a call.
func handoff(s *script, c *call) {
	promise(s, c)
	c.agent = true
	set(&c.skeleton, "call_type", "agent")
}

// rating: a traveller answers the survey.
func rating(s *script, c *call) {
	stars := 1 + s.rng.IntN(5)
	c.conversation(
		"Hello from Harbour Travel. How was your trip, from one to five?",
		fmt.Sprintf("I would say %d.", stars),
		"Thank you very much!")
	s.analysed(c, "ANSWERED", "SURVEY_DONE", "Gave a rating.", bson.E{Key: "rating", Value: stars})
}

// wrongNumber: the CRM refuses it, though it answers 200.
func wrongNumber(s *script, c *call) {
	rating(s, c)
	set(&c.skeleton, "caller_id", badPhone)
}

// renewal: a policy goes on for a year.
func renewal(s *script, c *call) { s.renew(c, "JN-") }

// renewalOfOld: the CRM takes it at the second attempt.
func renewalOfOld(s *script, c *call) { s.renew(c, oldPolicy) }

func (s *script) renew(c *call, kind string) {
	policy := fmt.Sprintf("%s%06d", kind, s.rng.IntN(1_000_000))
	set(&c.skeleton, "connected_event.POLICY", policy)
	c.conversation(
		"Hello, your policy "+policy+" ends this month. Shall I renew it?",
		pick(s.rng, "Yes, please.", "Is it the same price?", "I suppose so."),
		"It stays at the same price for another year.",
		"Fine. {{Thank}} you.",
		"Thank you. Goodbye.")
	s.analysed(c, "RENEWED", "ONE_YEAR", "Renewed at the same price.")
}

// visit: a patient confirms. There is no recording.
func visit(s *script, c *call) {
	set(&c.skeleton, "crm_data.patient_id", fmt.Sprintf("P%07d", s.rng.IntN(10_000_000)))
	c.conversation(
		"Orchid Clinic here. Can you come on Thursday at ten?",
		pick(s.rng, "Yes, I will be there.", "Thursday is fine."),
		"See you on Thursday.")
	s.analysed(c, "CONFIRMED", "VISIT", "Comes on Thursday at ten.")
}

// stranger: the pre-call fetch found no patient, and the CRM wants one.
func stranger(s *script, c *call) {
	visit(s, c)
	set(&c.skeleton, "crm_data.patient_id", nil)
}

// reading: a customer reads a meter aloud. The call is of the time before
// access tokens, so that its recording link is signed.
func reading(s *script, c *call) {
	kwh := 10_000 + s.rng.IntN(80_000)
	set(&c.skeleton, "connected_event.account", fmt.Sprintf("ME-%05d", s.rng.IntN(100_000)))
	c.conversation(
		"Meridian Energy here. What does your meter say?",
		"It says "+digits(kwh)+".",
		"Thank you, I have it.")
	s.analysed(c, "READING", "BY_CUSTOMER", "Read the meter.", bson.E{Key: "reading", Value: kwh})
}

// lesson: a call of a bot that pushes nowhere.
func lesson(s *script, c *call) {
	c.conversation("Hello, this is a test.", "I hear you.")
	s.analysed(c, "TEST", "TEST", "A test call.")
}

// digits reads a number aloud, figure by figure.
func digits(n int) string {
	return strings.Join(strings.Split(fmt.Sprint(n), ""), " ")
}
