// Package message sends one text message, or makes another call that sends, and again while it does not get through.
//
// It owns the attempts, the waits between them, when a call is given up, that a message follows a group that became a
// supergroup, and where a long text is cut. It does not know what messages say, and keeps no queue.
//
// It may import telegram.
package message
