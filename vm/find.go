package vm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Kernel is a kernel that can be booted.
type Kernel struct {
	Name    string `json:"name"`              // fit for a folder, and no other kernel of the run has it: "6.1.0-56-cloud-amd64"
	From    string `json:"from"`              // what the user named
	Release string `json:"release"`           // as uname -r will say in it; empty where nothing tells before it has booted
	Arch    string `json:"architecture"`      // as GOARCH names it: amd64, arm64
	Image   string `json:"image"`             // path; all paths are absolute
	Modules string `json:"modules,omitempty"` // folder of its modules; empty: there is none, all is built in
	Config  string `json:"config,omitempty"`  // path of its .config; empty where none was found
	SHA256  string `json:"sha256"`            // of the image, in hexadecimal

	// Want are further modules that the guest loads, where the kernel has them.
	Want []string `json:"-"`
}

// Options are how kernels are looked for.
type Options struct {
	Modules string // folder with the modules of the kernels that are files; empty: where a distribution has them
	Cache   *Cache
	// AnyArch takes kernels that no emulator on this machine runs.
	AnyArch bool
	// Words tells a person what takes long; may be nil.
	Words func(format string, args ...any)
}

func (o *Options) say(format string, args ...any) {
	if o.Words != nil {
		o.Words(format, args...)
	}
}

// Find returns the kernels that a user named: images, build trees, packages and folders that they were unpacked to, "host",
// "debian:VERSION", "@FILE" with one a line; several with commas between them. Errors are *Error.
func Find(ctx context.Context, specs []string, o Options) ([]*Kernel, error) {
	names, err := spelledOut(specs)
	if err != nil {
		return nil, err
	}
	f := finder{Options: o}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := f.find(ctx, name); err != nil {
			return nil, err
		}
	}
	if err := f.joinPackages(); err != nil {
		return nil, err
	}
	for _, k := range f.found {
		if err := f.check(k); err != nil {
			return nil, err
		}
	}
	setNames(f.found)
	return f.found, nil
}

// spelledOut takes comma lists and files of names apart.
func spelledOut(specs []string) ([]string, error) {
	var names []string
	for _, spec := range specs {
		words := []string{spec}
		if !exists(spec) {
			words = strings.Split(spec, ",")
		}
		for _, word := range words {
			word = strings.TrimSpace(word)
			file, isList := strings.CutPrefix(word, "@")
			switch {
			case word == "":
				return nil, refuse(exampleKernel, "a kernel has no name: %q", spec)
			case !isList:
				names = append(names, word)
			default:
				listed, err := readList(file)
				if err != nil {
					return nil, err
				}
				names = append(names, listed...)
			}
		}
	}
	if len(names) == 0 {
		return nil, refuse(exampleKernel, "no kernel is named")
	}
	return names, nil
}

const exampleKernel = "--kernel FILE, --kernel DIR, --kernel host or --kernel debian:VERSION"

// readList reads a file of kernels.
func readList(file string) ([]string, error) {
	const most = 1 << 20
	info, err := os.Stat(file)
	if err != nil {
		return nil, missing(err, "@"+file)
	}
	if info.Size() > most {
		return nil, refuse("--kernel "+file+", if it is a kernel", "@%s: %d bytes are no list of kernels", file, info.Size())
	}
	var names []string
	var bad error
	err = eachLine(file, func(line string) {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		switch {
		case line == "":
		case strings.HasPrefix(line, "@"):
			bad = refuse("name it on the command line", "%s: a list names another list, %s", file, line)
		case strings.ContainsRune(line, 0):
			bad = refuse("--kernel "+file+", if it is a kernel", "@%s: it is no text", file)
		default:
			names = append(names, line)
		}
	})
	switch {
	case err != nil:
		return nil, missing(err, "@"+file)
	case bad != nil:
		return nil, bad
	case len(names) == 0:
		return nil, refuse("one kernel a line", "%s names no kernel", file)
	}
	return names, nil
}

// missing is the error for a file or folder that cannot be read.
func missing(err error, name string) *Error {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	e := &Error{What: "kernel " + name, Err: err, Bad: true}
	switch {
	case errors.Is(err, fs.ErrPermission):
		e.Bad, e.Next = false, "sudo cp "+name+" ., and chmod it to be read"
	case strings.Contains(name, "/") || strings.HasPrefix(name, "."):
		e.Next = "ls -l " + filepath.Dir(name)
	default:
		e.Next = exampleKernel
	}
	return e
}

// finder collects kernels.
type finder struct {
	Options
	found    []*Kernel
	packaged []*Kernel // those of them that are in packages
	parts    []*part   // packages without an image
}

func (f *finder) find(ctx context.Context, name string) error {
	if name == "host" {
		return f.host()
	}
	if version, ok := strings.CutPrefix(name, "debian:"); ok {
		return f.debian(ctx, name, version)
	}
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return missing(err, name)
	case info.IsDir():
		return f.folder(name)
	case !info.Mode().IsRegular():
		return refuse(exampleKernel, "kernel %s: neither a file nor a folder", name)
	}
	isPackage, err := isAr(name)
	if err != nil {
		return missing(err, name)
	}
	switch {
	case isPackage:
		return f.deb(ctx, name, name)
	case strings.HasSuffix(name, ".deb"):
		return refuse("dpkg-deb --info "+name, "kernel %s is no Debian package", name)
	}
	return f.image(name, name)
}

// isAr tells whether a file begins as a package does.
func isAr(file string) (bool, error) {
	f, err := os.Open(file)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	magic := make([]byte, len(arMagic))
	n, err := io.ReadFull(f, magic)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return false, err
	}
	return string(magic[:n]) == arMagic, nil
}

// mostImage is how large an image may be, in bytes; that of a kernel with all built in and debugging on is some 100 MiB.
const mostImage = 1 << 30

// image adds the kernel of an image.
func (f *finder) image(from, file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return missing(err, file)
	}
	if info.Size() > mostImage {
		return refuse(buildImage, "kernel %s: %d MiB are no image of a kernel", file, info.Size()>>20)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return missing(err, file)
	}
	i, err := parseImage(b)
	var no *notImage
	if errors.As(err, &no) {
		return refuse(no.next, "kernel %s is none that can be booted: %s", from, no.why)
	}
	if err != nil {
		return failed(err, "", "kernel %s", from)
	}
	sum := sha256.Sum256(b)
	k := &Kernel{From: from, Release: i.release, Arch: i.arch, Image: file, SHA256: hex.EncodeToString(sum[:])}
	if err := f.complete(k); err != nil {
		return err
	}
	if k.Config == "" {
		if err := f.configWithin(k, b); err != nil {
			return err
		}
	}
	f.found = append(f.found, k)
	return nil
}

// configWithin looks for the .config in an image, and puts it into the cache.
func (f *finder) configWithin(k *Kernel, b []byte) error {
	config := ikconfig(b)
	if config == nil {
		return nil
	}
	c, err := f.cache()
	if err != nil {
		return err
	}
	k.Config, err = c.file(filepath.Join("configs", k.SHA256[:32]), config)
	return err
}

// complete finds what belongs to an image.
func (f *finder) complete(k *Kernel) error {
	full, err := filepath.Abs(k.Image)
	if err != nil {
		return failed(err, "", "kernel %s", k.From)
	}
	k.Image = full
	dir, base := filepath.Split(full)
	dir = filepath.Clean(dir)
	named := releaseOf(base)
	if k.Release == "" {
		k.Release = named
	}
	modules := ""
	if f.Modules != "" {
		if modules, err = modulesBelow(f.Modules, k.Release); err != nil {
			return err
		}
		if modules, err = filepath.Abs(modules); err != nil {
			return failed(err, "", "kernel %s", k.From)
		}
	}
	tree := treeOf(dir)
	if modules == "" {
		for _, p := range modulesBeside(dir, tree, k.Release) {
			if modules == "" && hasModules(p) {
				modules = p
			}
		}
	}
	k.Modules = modules
	k.Config = firstFile(configsBeside(dir, tree, modules, k.Release))
	if k.Release == "" && modules != "" {
		k.Release = releaseFromModules(modules)
	}
	return nil
}

// releaseOf is the release in the name of an image, as in vmlinuz-6.1.0-56-cloud-amd64.
func releaseOf(base string) string {
	for _, lead := range []string{"vmlinuz-", "vmlinux-", "bzImage-", "Image-", "kernel-"} {
		if r, ok := strings.CutPrefix(base, lead); ok {
			return r
		}
	}
	return ""
}

// treeOf is the build tree whose image is in a folder: arch/x86/boot; empty where it is none.
func treeOf(dir string) string {
	if filepath.Base(dir) != "boot" {
		return ""
	}
	tree := filepath.Dir(filepath.Dir(filepath.Dir(dir)))
	if filepath.Base(filepath.Dir(filepath.Dir(dir))) != "arch" || !exists(filepath.Join(tree, ".config")) {
		return ""
	}
	return tree
}

// modulesBeside are where the modules of an image in a folder may be.
func modulesBeside(dir, tree, release string) []string {
	if tree != "" {
		return []string{tree}
	}
	var places []string
	if filepath.Base(filepath.Dir(dir)) == "modules" {
		places = append(places, dir) // /usr/lib/modules/V/vmlinuz
	}
	if release == "" {
		return places
	}
	for _, root := range []string{filepath.Dir(dir), dir} {
		for _, lib := range []string{"lib/modules", "usr/lib/modules"} {
			places = append(places, filepath.Join(root, lib, release))
		}
	}
	return places
}

// configsBeside are where the .config of an image in a folder may be.
func configsBeside(dir, tree, modules, release string) []string {
	var places []string
	if tree != "" {
		places = append(places, filepath.Join(tree, ".config"))
	}
	if release != "" {
		places = append(places, filepath.Join(dir, "config-"+release))
	}
	places = append(places, filepath.Join(dir, "config"), filepath.Join(dir, ".config"))
	if modules != "" {
		places = append(places, filepath.Join(modules, "config"), filepath.Join(modules, ".config"))
	}
	return places
}

func firstFolder(places []string) string {
	for _, p := range places {
		if info, err := os.Stat(p); err == nil && info.IsDir() {
			return p
		}
	}
	return ""
}

func firstFile(places []string) string {
	for _, p := range places {
		if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() {
			return p
		}
	}
	return ""
}

// modulesBelow is the folder of modules that --modules means: one with modules in it, or one above lib/modules/V.
func modulesBelow(dir, release string) (string, error) {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("not a folder")
	}
	if err != nil {
		e := missing(err, dir)
		e.What, e.Next = "modules "+dir, "--modules DIR, where make INSTALL_MOD_PATH=DIR modules_install put them"
		return "", e
	}
	if release != "" {
		for _, below := range []string{"lib/modules", "usr/lib/modules", "."} {
			if p := firstFolder([]string{filepath.Join(dir, below, release)}); p != "" {
				return p, nil
			}
		}
	}
	return dir, nil
}

// releaseFromModules is the release that a folder of modules is for.
func releaseFromModules(dir string) string {
	if b, err := os.ReadFile(filepath.Join(dir, "include/config/kernel.release")); err == nil {
		return strings.TrimSpace(string(b))
	}
	if filepath.Base(filepath.Dir(dir)) == "modules" {
		return filepath.Base(dir)
	}
	return ""
}

// images are the patterns of where images are, in a folder that packages were unpacked to.
var images = []string{
	"boot/vmlinuz-*", "lib/modules/*/vmlinuz", "usr/lib/modules/*/vmlinuz",
	"boot/Image-*", "vmlinuz-*", "vmlinuz", "bzImage", "Image",
}

// treeImages are where a build leaves its image.
var treeImages = []string{"arch/x86/boot/bzImage", "arch/arm64/boot/Image", "arch/arm64/boot/Image.gz"}

// folder adds the kernel in a folder: a build tree, or what packages were unpacked to.
func (f *finder) folder(dir string) error {
	if exists(filepath.Join(dir, ".config")) && exists(filepath.Join(dir, "arch")) || exists(filepath.Join(dir, "Kconfig")) {
		file := ""
		for _, i := range treeImages {
			if p := filepath.Join(dir, i); file == "" && exists(p) {
				file = p
			}
		}
		if file == "" {
			return &Error{What: "kernel " + dir, Err: ErrNotBuilt, Next: "make -C " + dir + " -j$(nproc), or name where it was built to (O=)", Bad: true}
		}
		return f.image(dir, file)
	}
	found, err := imagesIn(dir)
	switch {
	case err != nil:
		return failed(err, "", "kernel %s", dir)
	case len(found) == 0:
		return refuse("name the image itself, with --modules DIR", "kernel %s: a folder with neither a build tree nor an unpacked package of a kernel in it", dir)
	case len(found) > 1:
		return refuse("--kernel "+found[len(found)-1], "kernel %s: there are several in this folder: %s", dir, strings.Join(found, ", "))
	}
	return f.image(dir, found[0])
}

// imagesIn finds the images below a folder. A link to another, as /vmlinuz is, counts once.
func imagesIn(dir string) ([]string, error) {
	var found []string
	var seen []fs.FileInfo
next:
	for _, pattern := range images {
		matches, err := fs.Glob(os.DirFS(dir), pattern)
		if err != nil {
			return nil, err
		}
		for _, m := range matches {
			p := filepath.Join(dir, m)
			info, err := os.Stat(p)
			if err != nil || !info.Mode().IsRegular() {
				continue
			}
			for _, s := range seen {
				if os.SameFile(s, info) {
					continue next
				}
			}
			seen, found = append(seen, info), append(found, p)
		}
	}
	return found, nil
}

// setNames gives each kernel a name of its own: its release, and a number where another has that.
func setNames(kernels []*Kernel) {
	taken := map[string]bool{}
	for _, k := range kernels {
		base := fitName(k.Release)
		if base == "" {
			base = fitName(filepath.Base(k.Image))
		}
		if base == "" {
			base = "kernel"
		}
		k.Name = base
		for n := 2; taken[k.Name]; n++ {
			k.Name = fmt.Sprintf("%s-%d", base, n)
		}
		taken[k.Name] = true
	}
}
