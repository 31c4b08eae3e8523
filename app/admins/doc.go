// Package admins is what the chats of ADMIN_CHAT_IDS get: notifications, the operating commands, and who they are once a group
// among them has become a supergroup.
//
// It owns where those chats are, who may command, and sending the notifications; notify owns which there are and when. It
// needs no lease: what it sends conflicts with no other replica.
//
// It may import diagnosis, election, message, notify, queues, telegram, update, client_golang and x/time.
package admins
