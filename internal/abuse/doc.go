// Package abuse holds one proof and no code: whatever a bot, a call or a CRM of
// one tenant holds, the calls of another go out on time, once, and with an
// outcome, and the process stays small.
package abuse
