#!/bin/sh
# Meets each kind of check once, as a user with all capabilities. Nothing here depends on the kernel's version; what it is
# found to need is in expected.txt. The machine it runs on is a throw-away one, or a private set of namespaces.
PATH=/busybox

# Making, by an absolute and a relative path, from a directory that only this process has entered.
mkdir /srv/guarded/absolute
cd /srv/guarded/inner
mkdir relative
mkdir ../upwards
echo text >file
ln -s target link
# Removing and renaming; in a sticky directory it takes the owner.
rm -f /srv/guarded/removed
mv /srv/guarded/before /srv/guarded/after
rm -f /srv/sticky/theirs
# A file of somebody else's: reading, writing, and what is the owner's right.
cat /srv/secret
echo more >>/srv/readable
chmod 640 /srv/owned
touch -d 2001-01-01 /srv/owned
# A directory that may not be searched.
cat /srv/closed/below/file
cd /
cat srv/closed/file
# Another mount.
mkdir /mnt/other/directory
cat /mnt/other/closed/file
# Gifts and changes of identity, which nrtrace answers.
chown 33:33 /srv/owned
httpd -f -p 127.0.0.1:80 -u 33:33 -h /srv/www &
server=$!
until wget -q -O /dev/null http://127.0.0.1/index.html 2>/dev/null; do sleep 0.1; done
kill $server
# A grandchild whose parent has gone.
sh -c '(sleep 0.2; mkdir /srv/guarded/orphan) &'
sleep 0.5
# Capabilities in their own right.
hostname other
sh -c 'renice -n -5 -p $$'
mount -t tmpfs none /mnt/new && umount /mnt/new
# What is not of the machine's own kind.
/narrow
# Checks whose answer decides nothing, though one is asked for: each is marked as not to be audited.
cat /proc/sys/net/ipv4/ip_forward
cat /proc/1/stat
# One marked like them, whose answer does decide.
echo 1 >/proc/sys/net/ipv4/ip_forward
