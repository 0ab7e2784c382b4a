package stream

import (
	"errors"
	"slices"

	"go.mongodb.org/mongo-driver/v2/mongo"
)

// class says what an error of the server means for the follower.
type class uint8

const (
	classRetry     class = iota // open again at the same position
	classLost                   // the history after the position is gone
	classToken                  // the token is of no use; the time may be
	classOversized              // an event is too large to be returned
	classDenied                 // nothing but an operator can mend this
)

// Server error codes, by number because their texts are not a promise.
const (
	codeUnauthorized   = 13
	codeTypeMismatch   = 14
	codeAuthFailed     = 18
	codeFailedToParse  = 9
	codeBadValue       = 2
	codeInvalidOptions = 72
	codeCappedLost     = 136 // CappedPositionLost: a living cursor fell behind
	codeInvalidToken   = 260 // InvalidResumeToken
	codeStreamFatal    = 280 // ChangeStreamFatalError
	codeHistoryLost    = 286 // ChangeStreamHistoryLost
	codeAtlasError     = 8000
	codeObjectTooLarge = 10334 // BSONObjectTooLarge
	codeNoStage        = 40324 // unrecognised pipeline stage
	codeStageShape     = 40323
	codeOldNoTime      = 40576 // 4.2: the resume point is not in the oplog
	codeOldNoToken     = 40585 // 4.2: the token was not found
	codeTokenNoData    = 40647
	codeTwoStarts      = 40674
	codeTokenNonsense  = 50811
	codeFieldUnknown   = 40415
)

// classify goes by the code alone. The order matters for an error with several
// codes: what loses the position comes before what keeps it.
func classify(err error) class {
	server, ok := errors.AsType[mongo.ServerError](err)
	if !ok {
		if errors.Is(err, mongo.ErrMissingResumeToken) {
			return classDenied // the pipeline drops _id
		}
		return classRetry
	}
	for _, known := range []struct {
		class class
		codes []int
	}{
		{classLost, []int{codeHistoryLost, codeCappedLost, codeOldNoTime}},
		{classOversized, []int{codeObjectTooLarge}},
		{classToken, []int{codeInvalidToken, codeStreamFatal, codeOldNoToken, codeTokenNonsense,
			codeTokenNoData, codeFailedToParse, codeTypeMismatch, codeBadValue, codeInvalidOptions}},
		{classDenied, []int{codeUnauthorized, codeAuthFailed, codeAtlasError, codeNoStage, codeStageShape,
			codeTwoStarts, codeFieldUnknown}},
	} {
		if slices.ContainsFunc(known.codes, server.HasErrorCode) {
			return known.class
		}
	}
	return classRetry
}

// mayBeFilter says whether an error may be the fault of the filter: it is the server's,
// it is not known to pass, and it does not only concern the position.
func (f *Follower) mayBeFilter(err error) bool {
	server, ok := errors.AsType[mongo.ServerError](err)
	if !ok || server.HasErrorLabel(resumable) || f.cfg.Passing != nil && f.cfg.Passing(err) {
		return false
	}
	class := classify(err)
	return class == classRetry ||
		class == classToken && slices.ContainsFunc([]int{codeFailedToParse, codeTypeMismatch, codeBadValue}, server.HasErrorCode)
}

// resumable is the label of errors after which a server expects the stream again.
const resumable = "ResumableChangeStreamError"

// passes says whether the same again may work. All errors that no server sent
// pass, and those that a server calls resumable.
func (f *Follower) passes(err error) bool {
	server, ok := errors.AsType[mongo.ServerError](err)
	return !ok || f.cfg.Passing == nil || server.HasErrorLabel(resumable) || f.cfg.Passing(err)
}
