// Package ports finds addresses for the servers that tests and programs start as processes of their own, which have to be told theirs.
//
//	Free ─▶ 127.0.0.1:18000…31999, that nobody listens at ─▶ the server's configuration
//
// An address that the system gives (port 0) is one of those it gives to outgoing connections too, and may be one of these by the time the server
// comes to it. So these are from below that range (32768 on Linux), at random, for other programs that test beside this one.
package ports
