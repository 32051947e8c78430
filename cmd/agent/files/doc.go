// Package files reads and writes a kernel's home folder from outside, on the user's behalf.
//
// Names come from users, and what is below the folder is made by user code: a symbolic link there can point anywhere. All
// access goes through [os.Root], which follows no link out of its folder, so a name or a link that leads outside is an
// error and never a leak. Virtual folders are mounted inside the kernel only; a [Home] knows them and looks in their
// place.
//
// Errors are the exceptions of the 22.03 agent, ready to be answered with (spec/agent-protocol §5.15-5.17).
package files
