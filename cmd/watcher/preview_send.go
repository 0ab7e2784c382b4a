package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/internal/inspect"
	"github.com/cxbridge/watcher/internal/plain"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/secret"
)

// sentOutput is what watcher preview --send prints.
type sentOutput struct {
	*previewOutput
	// Credentials is false when they were left out because the host is another.
	Credentials bool          `json:"credentials_sent"`
	Answer      *answerOutput `json:"answer"` // null when nothing was sent
}

// answerOutput is what came of an attempt.
type answerOutput struct {
	Status     string     `json:"status"`      // as it would stand on the call
	HTTPStatus int        `json:"http_status"` // 0 without an answer
	Error      string     `json:"error,omitempty"`
	Body       string     `json:"response_body"`
	Took       plain.Span `json:"seconds"`
}

// send pushes the call for real, after a question, and writes nothing to it.
func (p *previewCmd) send(ctx context.Context, std cli.Streams, o *previewOptions, in *previewInput) error {
	client, err := push.NewClient(push.Options{
		Allow: o.config.AllowNetworks, Deny: o.config.DenyNetworks, CAFile: p.CAFile, ProxyFromEnvironment: p.ProxyFromEnvironment,
		UserAgent: "watcher/" + version,
	})
	if err != nil {
		return cli.Usage(err)
	}
	defer client.Close()
	call := calls.Decode(in.call)
	bot, foreign := p.sender(o, in.botDoc)
	out := &sentOutput{previewOutput: o.preview(&call, bot, in.settings), Credentials: !foreign}
	talk := std.Out
	if p.Output == "json" {
		talk = std.Err // the object stands alone
	} else if err := printPreview(std.Out, out.previewOutput); err != nil {
		return err
	}
	if out.Request == nil {
		fmt.Fprintln(talk, "\nNothing is sent.")
		return p.sent(std.Out, out)
	}
	fmt.Fprintf(talk, "\nThis is sent to %s for real, once, as delivery %s. Nothing is written to the call.\n", plain.Line(bot.Push.PublicURL, 200), out.DeliveryID)
	if foreign {
		fmt.Fprintln(talk, "That is not the host of the bot: its credentials and the recording link are left out, unless\n--with-credentials says otherwise.")
	}
	asked := std
	asked.Out = talk
	if err := confirm(ctx, asked, p.Yes); err != nil {
		return err
	}
	req, err := o.request(&call, bot, in, foreign)
	if err != nil {
		return err
	}
	res := client.Send(ctx, req)
	out.Answer = &answerOutput{Status: res.Class.Status(), HTTPStatus: res.HTTPStatus, Body: res.Body, Took: plain.Span(res.Duration)}
	if res.Err != nil {
		out.Answer.Error = res.Err.Error()
	}
	return p.sent(std.Out, out)
}

// sender is the bot that sends: with --to at that address, and to another host without
// its credentials; foreign is then true.
func (p *previewCmd) sender(o *previewOptions, doc bson.Raw) (bot *bots.Bot, foreign bool) {
	own := o.compile(doc)
	if p.To == "" || own == nil || own.Push == nil {
		return own, false
	}
	bot = o.compile(withURL(doc, p.To))
	if p.WithCredentials || !bot.Push.HasURL || sameOrigin(own.Push.URL, p.To) {
		return bot, false
	}
	stripped := *bot.Push
	stripped.Header = make(http.Header)
	for name, values := range bot.Push.Header {
		if secret.IsPlainHeader(name) {
			stripped.Header[name] = values
		}
	}
	stripped.Auth, stripped.SigningSecret = nil, ""
	stripped.Redact.Add(own.Push.Secrets...) // those in its own address
	bot.Push = &stripped                     // nobody else has it
	return bot, true
}

// withURL is the document of a bot with another address.
func withURL(doc bson.Raw, to string) bson.Raw {
	const pushKey, urlKey = "post_call_push", "url"
	set := func(doc bson.Raw, key string, value any) bson.Raw {
		all := bson.D{}
		elements, _ := doc.Elements() // it was read as a document
		for _, e := range elements {
			if e.Key() != key {
				all = append(all, bson.E{Key: e.Key(), Value: e.Value()})
			}
		}
		raw, err := bson.Marshal(append(all, bson.E{Key: key, Value: value}))
		if err != nil {
			return doc // values that were read are written
		}
		return raw
	}
	config, ok := doc.Lookup(pushKey).DocumentOK()
	if !ok {
		return doc
	}
	return set(doc, pushKey, set(config, urlKey, to))
}

// sameOrigin is true when two addresses lead to the same host and port by the same scheme.
func sameOrigin(x, y string) bool {
	a, err := url.Parse(x)
	if err != nil {
		return false
	}
	b, err := url.Parse(strings.TrimSpace(y))
	return err == nil && a.Host != "" && strings.EqualFold(a.Scheme, b.Scheme) && strings.EqualFold(a.Host, b.Host)
}

// request is what goes out. For another host it is what was shown: without what the
// payload holds of the bot's credentials, and with a recording link that opens nothing.
func (o *previewOptions) request(call *calls.Call, bot *bots.Bot, in *previewInput, foreign bool) (*push.Request, error) {
	env := o.env()
	env.Render.KeepUnresolved = false
	if bot.Push.NeedsRecording {
		links, _ := o.links(in.settings) // the warnings name what is wrong with the settings
		env.RecordingURL = links.Link(call)
		if foreign {
			env.RecordingURL = inspect.MaskLink(env.RecordingURL)
		}
	}
	req, err := dispatch.Prepare(call, bot, env)
	if err != nil {
		return nil, err
	}
	req.Redact = dispatch.Redactor(call, bot, env.RecordingURL)
	if foreign {
		if req.Body != nil {
			req.Body = []byte(inspect.Hide(bot.Push, string(req.Body)))
		}
		payload, _ := strings.CutPrefix(req.URL, bot.Push.URL)
		req.URL = bot.Push.URL + inspect.Hide(bot.Push, payload)
	}
	return req, nil
}

// sent prints what came of it; anything but ok fails.
func (p *previewCmd) sent(w io.Writer, out *sentOutput) error {
	if p.Output == "json" {
		if err := writeJSON(w, out); err != nil {
			return err
		}
	} else if a := out.Answer; a != nil {
		answer := &callPrinter{}
		said := "no answer"
		if a.HTTPStatus != 0 {
			said = fmt.Sprintf("HTTP %d", a.HTTPStatus)
		}
		fmt.Fprintln(answer)
		answer.field("answer", "%s, %s, after %s", a.Status, said, plain.Duration(time.Duration(a.Took)))
		if a.Error != "" {
			answer.field("error", "%s", a.Error)
		}
		answer.body(a.Body)
		if _, err := io.WriteString(w, answer.String()); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	if out.Answer == nil || out.Answer.Status != "ok" {
		return cli.ErrSilent
	}
	return nil
}
