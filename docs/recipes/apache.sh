#!/bin/sh
# server: Apache httpd, event
# version: apache2 -v
# needs: apache2=apache2
# listens: ListenCoresBucketsRatio 1, Listen 0.0.0.0:80
# reload: USR1, graceful
# advice: set the sysctl, and name an address: "Listen 80" makes two groups; or leave ListenCoresBucketsRatio alone
set -eu
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir" && chmod 755 .
echo ok >index.html
cat >apache.conf <<-CONF
	ServerRoot $dir
	ServerName localhost
	LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
	LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
	ListenCoresBucketsRatio 1
	Listen 0.0.0.0:80
	PidFile $dir/apache.pid
	ErrorLog /dev/stderr
	DocumentRoot $dir
	User www-data
	Group www-data
CONF
"${RPMIG:-rpmig}" reload --name apache --http /index.html "$@" --reload signal:USR1 -- apache2 -DFOREGROUND -f "$dir/apache.conf"
