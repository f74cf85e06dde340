//! Facts of inodes, as events carry them.

use std::collections::HashMap;

use nix::sys::stat::FileStat;
use nrtrace_ebpf::record::InodeRecord;
use nrtrace_profiles::calls::{Identity as Takes, Operation};
use nrtrace_profiles::event::{Accounts, Event, Inode, Object};

use super::Within;
use crate::accounts;

/// Names of users and groups, asked for once each.
#[derive(Debug, Default)]
pub struct Names {
    within: Within,
    users: HashMap<u32, Option<String>>,
    groups: HashMap<u32, Option<String>>,
}

/// Ids whose names are remembered.
const NAMES: usize = 4096;

impl Names {
    /// For a program in those surroundings.
    pub fn new(within: Within) -> Self {
        Self { within, ..Self::default() }
    }

    fn user(&mut self, uid: u32) -> Option<String> {
        if let Some(users) = &self.within.users {
            return users.get(&uid).cloned();
        }
        if self.users.len() >= NAMES {
            self.users.clear();
        }
        let ask = || accounts::user_by_uid(uid).map(|user| user.name);
        self.users.entry(uid).or_insert_with(ask).clone()
    }

    fn group(&mut self, gid: u32) -> Option<String> {
        if let Some(groups) = &self.within.groups {
            return groups.get(&gid).cloned();
        }
        if self.groups.len() >= NAMES {
            self.groups.clear();
        }
        let ask = || accounts::group_by_gid(gid).map(|group| group.name);
        self.groups.entry(gid).or_insert_with(ask).clone()
    }

    /// Makes the ids of an inode those that the program sees, and adds their names.
    pub fn name(&mut self, inode: &mut Inode) {
        (inode.uid, inode.gid) = (self.within.uid(inode.uid), self.within.gid(inode.gid));
        inode.user = self.user(inode.uid);
        inode.group = self.group(inode.gid);
    }

    /// The names of the ids that calls asked for.
    pub fn accounts(&mut self, events: &[Event]) -> Accounts {
        let mut accounts = Accounts::default();
        for event in events {
            let args = &event.call.args;
            let operation = event.call.operation();
            let of_users = matches!(operation, Operation::Identity(Takes::Users(_) | Takes::FileUser));
            let (users, groups) = match (&event.object, operation.gift(args)) {
                (Object::Ids { ids }, _) if of_users => (ids.clone(), Vec::new()),
                (Object::Ids { ids }, _) => (Vec::new(), ids.clone()),
                (Object::Gift { uid, gid, .. }, _) => (vec![*uid], vec![*gid]),
                (_, Some((uid, gid))) => (vec![uid], vec![gid]),
                _ => continue,
            };
            accounts.users.extend(users.into_iter().filter_map(|uid| Some((uid, self.user(uid)?))));
            accounts.groups.extend(groups.into_iter().filter_map(|gid| Some((gid, self.group(gid)?))));
        }
        accounts
    }

    /// From what stat(2) says.
    pub fn of_stat(&mut self, stat: &FileStat) -> Inode {
        let device = (libc::major(stat.st_rdev), libc::minor(stat.st_rdev));
        self.inode(stat.st_mode, stat.st_uid, stat.st_gid, device)
    }

    /// From what the probe read, where `rdev` is encoded as inside the kernel: major and 20 bits of minor.
    pub fn of_record(&mut self, record: &InodeRecord) -> Inode {
        let device = (record.rdev >> 20, record.rdev & 0xf_ffff);
        self.inode(record.mode, record.uid, record.gid, device)
    }

    fn inode(&mut self, mode: u32, uid: u32, gid: u32, device: (u32, u32)) -> Inode {
        let mut inode = Inode::of_mode(mode, uid, gid, device);
        self.name(&mut inode);
        inode
    }
}

/// Read, write and search or execute, as in a mode's last digit.
pub const WRITE: u32 = 2;
/// Search of a directory.
pub const SEARCH: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_and_user_device_numbers_agree() {
        let mut names = Names::default();
        let record = InodeRecord { mode: libc::S_IFCHR | 0o666, rdev: 1 << 20 | 3, ..Default::default() };
        let seen = names.of_stat(&nix::sys::stat::stat("/dev/null").unwrap());
        assert_eq!(names.of_record(&record), seen);
        assert_eq!(seen.device, Some((1, 3)));
        assert_eq!(seen.user.as_deref(), Some("root"));
    }
}
