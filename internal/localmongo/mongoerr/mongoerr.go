// Package mongoerr holds the errors that a MongoDB client sees: a code, its name and a
// message. It owns the table of codes that localmongo answers with, and which of them a
// driver may retry or resume after. It knows nothing of the wire format.
package mongoerr

import (
	"fmt"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The codes that localmongo uses. Names and numbers are those of the MongoDB server.
const (
	HostUnreachable                 = 6
	HostNotFound                    = 7
	BadValue                        = 2
	FailedToParse                   = 9
	Unauthorized                    = 13
	TypeMismatch                    = 14
	Overflow                        = 15
	InvalidLength                   = 16
	AuthenticationFailed            = 18
	IllegalOperation                = 20
	InvalidBSON                     = 22
	NamespaceNotFound               = 26
	IndexNotFound                   = 27
	PathNotViable                   = 28
	ConflictingUpdateOperators      = 40
	CursorNotFound                  = 43
	NamespaceExists                 = 48
	MaxTimeMSExpired                = 50
	DollarPrefixedFieldName         = 52
	InvalidIDField                  = 53
	CommandNotFound                 = 59
	StaleShardVersion               = 63
	ImmutableField                  = 66
	CannotCreateIndex               = 67
	InvalidOptions                  = 72
	InvalidNamespace                = 73
	IndexOptionsConflict            = 85
	IndexKeySpecsConflict           = 86
	NetworkTimeout                  = 89
	ShutdownInProgress              = 91
	UnsatisfiableWriteConcern       = 100
	WriteConflict                   = 112
	CommandNotSupported             = 115
	FailedToSatisfyReadPreference   = 133
	CappedPositionLost              = 136
	StaleEpoch                      = 150
	PrimarySteppedDown              = 189
	TransactionTooOld               = 225
	RetryChangeStream               = 234
	CursorKilled                    = 237
	NoSuchTransaction               = 251
	TransactionCommitted            = 256
	InvalidResumeToken              = 260
	ExceededTimeLimit               = 262
	OperationNotSupportedInTxn      = 263
	ChangeStreamFatalError          = 280
	ChangeStreamHistoryLost         = 286
	SocketException                 = 9001
	NotWritablePrimary              = 10107
	BSONObjectTooLarge              = 10334
	DuplicateKey                    = 11000
	InterruptedAtShutdown           = 11600
	Interrupted                     = 11601
	InterruptedDueToReplStateChange = 11602
	NotPrimaryNoSecondaryOk         = 13435
	NotPrimaryOrSecondary           = 13436
	DocumentAfterUpdateTooLarge     = 17419
	UnknownStage                    = 40324
	UnknownField                    = 40415
	StageNotFirst                   = 40602
	BadResumeToken                  = 40647
	TwoResumeOptions                = 40674
	BadKeyString                    = 50811
	InvalidExpression               = 168
	ExpressionNotObject             = 15981
)

var names = map[int32]string{
	HostUnreachable:                 "HostUnreachable",
	HostNotFound:                    "HostNotFound",
	BadValue:                        "BadValue",
	FailedToParse:                   "FailedToParse",
	Unauthorized:                    "Unauthorized",
	TypeMismatch:                    "TypeMismatch",
	Overflow:                        "Overflow",
	InvalidLength:                   "InvalidLength",
	AuthenticationFailed:            "AuthenticationFailed",
	IllegalOperation:                "IllegalOperation",
	InvalidBSON:                     "InvalidBSON",
	NamespaceNotFound:               "NamespaceNotFound",
	IndexNotFound:                   "IndexNotFound",
	PathNotViable:                   "PathNotViable",
	ConflictingUpdateOperators:      "ConflictingUpdateOperators",
	CursorNotFound:                  "CursorNotFound",
	NamespaceExists:                 "NamespaceExists",
	MaxTimeMSExpired:                "MaxTimeMSExpired",
	DollarPrefixedFieldName:         "DollarPrefixedFieldName",
	InvalidIDField:                  "InvalidIdField",
	CommandNotFound:                 "CommandNotFound",
	StaleShardVersion:               "StaleShardVersion",
	ImmutableField:                  "ImmutableField",
	CannotCreateIndex:               "CannotCreateIndex",
	InvalidOptions:                  "InvalidOptions",
	InvalidNamespace:                "InvalidNamespace",
	IndexOptionsConflict:            "IndexOptionsConflict",
	IndexKeySpecsConflict:           "IndexKeySpecsConflict",
	NetworkTimeout:                  "NetworkTimeout",
	ShutdownInProgress:              "ShutdownInProgress",
	UnsatisfiableWriteConcern:       "UnsatisfiableWriteConcern",
	WriteConflict:                   "WriteConflict",
	CommandNotSupported:             "CommandNotSupported",
	FailedToSatisfyReadPreference:   "FailedToSatisfyReadPreference",
	CappedPositionLost:              "CappedPositionLost",
	StaleEpoch:                      "StaleEpoch",
	PrimarySteppedDown:              "PrimarySteppedDown",
	TransactionTooOld:               "TransactionTooOld",
	RetryChangeStream:               "RetryChangeStream",
	CursorKilled:                    "CursorKilled",
	NoSuchTransaction:               "NoSuchTransaction",
	TransactionCommitted:            "TransactionCommitted",
	InvalidResumeToken:              "InvalidResumeToken",
	ExceededTimeLimit:               "ExceededTimeLimit",
	OperationNotSupportedInTxn:      "OperationNotSupportedInTransaction",
	ChangeStreamFatalError:          "ChangeStreamFatalError",
	ChangeStreamHistoryLost:         "ChangeStreamHistoryLost",
	SocketException:                 "SocketException",
	NotWritablePrimary:              "NotWritablePrimary",
	BSONObjectTooLarge:              "BSONObjectTooLarge",
	DuplicateKey:                    "DuplicateKey",
	InterruptedAtShutdown:           "InterruptedAtShutdown",
	Interrupted:                     "Interrupted",
	InterruptedDueToReplStateChange: "InterruptedDueToReplStateChange",
	NotPrimaryNoSecondaryOk:         "NotPrimaryNoSecondaryOk",
	NotPrimaryOrSecondary:           "NotPrimaryOrSecondary",
	InvalidExpression:               "InvalidPipelineOperator",
}

// Labels that a server of version 4.4 or newer puts on its errors.
const (
	LabelResumable = "ResumableChangeStreamError"
	LabelRetryable = "RetryableWriteError"
	LabelTransient = "TransientTransactionError"
)

// Error is an error reply. Labels holds those given by whoever made the error; the
// server adds the ones that follow from the code and the command.
type Error struct {
	Code    int32
	Message string
	Labels  []string
	// KeyPattern and KeyValue are set on a DuplicateKey.
	KeyPattern, KeyValue bson.Raw
}

// New returns an error with a code of this package and a formatted message.
func New(code int32, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Error gives the message in the form that drivers print.
func (e *Error) Error() string { return "(" + e.CodeName() + ") " + e.Message }

// CodeName is the name of the code; a code without one is called Location and the number,
// as the MongoDB server does.
func (e *Error) CodeName() string { return CodeName(e.Code) }

// CodeName is the name of a code, "Location" and the number for one without a name.
func CodeName(code int32) string {
	if name, ok := names[code]; ok {
		return name
	}
	return "Location" + strconv.Itoa(int(code))
}

// Resumable says whether a 4.4+ server marks the code with LabelResumable when it ends a
// change stream.
func Resumable(code int32) bool {
	switch code {
	case StaleShardVersion, StaleEpoch, RetryChangeStream, FailedToSatisfyReadPreference, CursorNotFound:
		return true
	}
	return Retryable(code)
}

// Retryable says whether a 4.4+ server marks the code with LabelRetryable when it ends a
// retryable write.
func Retryable(code int32) bool {
	switch code {
	case HostUnreachable, HostNotFound, NetworkTimeout, ShutdownInProgress, PrimarySteppedDown,
		ExceededTimeLimit, SocketException, NotWritablePrimary, InterruptedAtShutdown,
		InterruptedDueToReplStateChange, NotPrimaryNoSecondaryOk, NotPrimaryOrSecondary:
		return true
	}
	return false
}

// StateChange says whether the code tells that the server is no longer what it was: not
// the primary any more, or going down.
func StateChange(code int32) bool {
	switch code {
	case NotWritablePrimary, NotPrimaryNoSecondaryOk, NotPrimaryOrSecondary, InterruptedDueToReplStateChange,
		PrimarySteppedDown, ShutdownInProgress, InterruptedAtShutdown:
		return true
	}
	return false
}

// TransientInTxn says whether a 4.4+ server marks the code with LabelTransient inside a
// transaction.
func TransientInTxn(code int32) bool {
	return code == WriteConflict || code == NoSuchTransaction || Retryable(code)
}
