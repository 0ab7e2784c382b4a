package bots

import (
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/secret"
)

// The limits of what a bot may hold (docs/contract.md, section 9), in bytes where
// nothing else is given. A bot beyond one of them is a bad_config.
const (
	// maxDocument is for the fields of a document that are read here.
	maxDocument = 1 << 20

	maxURL         = 8 << 10
	maxHeaders     = 100 // headers
	maxHeaderName  = 256
	maxHeaderValue = 8 << 10 // also of the token and the signing secret
	maxAuth        = 16 << 10

	maxKeys     = 2000    // keys of the mapper, nested ones included
	maxKeyPath  = 4 << 10 // a key with those around it
	maxDepth    = 100     // levels of the mapper, as many as MongoDB takes
	maxTokens   = 10_000  // tokens of the mapper
	maxTemplate = 64 << 10

	maxTimeFormat = calls.MaxTimePattern

	maxRules    = 50 // success and retry_when
	maxRulePath = 512
	maxSecrets  = secret.MaxValues // values that are taken out of texts
)

// MaxPayload is the largest payload, as a body or as a query, in bytes. What would
// be larger fails for good.
const MaxPayload = 8 << 20

// The limits of what is told of a bot.
const (
	maxWarnings  = 200
	maxPart      = 300  // characters of each part of a Warning
	maxFaultText = 1000 // characters of Bot.FaultText
	maxName      = 200  // characters of Bot.Name
)
