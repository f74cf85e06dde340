#!/busybox/sh
# The first process of a machine with systemd: puts Debian's tree where overlays can be made over it, and starts systemd.
PATH=/busybox
export PATH
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in /modules/*.ko; do insmod "$module"; done
mount -t tmpfs -o mode=755,size=80% root /debian
tar -x -f /debian.tar -C /debian
rm /debian.tar
# Nothing runs but what is started for a check.
rm -f /debian/etc/systemd/system/multi-user.target.wants/*
cp -a /added/. /debian/
umount /proc /sys
mount --move /dev /debian/dev
exec switch_root /debian /usr/lib/systemd/systemd
