// Package botapi reads requests of the Bot API as its real server does, and writes its answers.
//
// It owns paths, method names, parameters in each encoding that frameworks use, and the form of an answer. A body is
// read as it streams by: of an upload nothing is kept but the few short parameters that are wanted. It is pure: no
// network, no clock, no goroutine. What it imitates is the source of the real server (telegram-bot-api 10.0 and tdlib:
// HttpReader.cpp, HttpConnection.cpp, Query.cpp, Client.cpp).
//
// It imports the standard library only.
package botapi
