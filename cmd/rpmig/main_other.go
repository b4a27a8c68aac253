//go:build !linux

package main

func main() {
	// rpmig drives the Linux kernel's network namespaces, AF_PACKET and BPF: build it with GOOS=linux.
	rpmig_runs_on_linux_only__build_it_with_GOOS_linux()
}
