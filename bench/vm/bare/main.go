//go:build linux

// Command bare is the first process of a guest that has nothing to do: it powers off.
package main

import "syscall"

func main() {
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}
