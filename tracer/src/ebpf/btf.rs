//! Finds members of the kernel's structures in its BTF (`Documentation/bpf/btf.rst`).
//!
//! Only what the probe's layout needs: structures by name, and the offsets of their members.

use std::collections::HashMap;
use std::ops::Range;

/// Where the running kernel keeps its types.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FWD: u32 = 7;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// Length of the header that is written here.
const HEADER: u32 = 24;
/// What the type of a tracepoint's arguments is called, before its own name.
const TRACEPOINT: &[u8] = b"btf_trace_";

/// Anonymous structures nest this deep at most, as do qualifiers of a type.
const NESTING: u32 = 16;

/// A kernel's types.
#[derive(Debug)]
pub struct Types<'a> {
    /// All type records.
    types: &'a [u8],
    /// All names, each ended by a NUL.
    names: &'a [u8],
    /// Where each type's record starts; type 0 (`void`) has none.
    records: Vec<usize>,
    /// Structures and unions by name.
    structures: HashMap<&'a [u8], u32>,
}

/// The bytes are no BTF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the type information is damaged at byte {at}")]
pub struct Damaged {
    /// Offset of what could not be read.
    pub at: usize,
}

/// A type's record.
#[derive(Clone, Copy)]
struct Record {
    name: u32,
    kind: u32,
    /// Members of a structure, parameters of a function, ….
    count: usize,
    /// Whether members' offsets also hold the size of a bit field.
    bit_fields: bool,
    /// The type it refers to, for a qualifier.
    target: u32,
    /// Where its members start.
    rest: usize,
}

impl<'a> Types<'a> {
    /// Reads BTF in the machine's byte order.
    ///
    /// # Errors
    /// When the bytes are cut short or no BTF.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Damaged> {
        let word = |at: usize| word(bytes, at).ok_or(Damaged { at });
        let magic = bytes.get(..2).map(|magic| u16::from_ne_bytes([magic[0], magic[1]]));
        if magic != Some(MAGIC) {
            return Err(Damaged { at: 0 });
        }
        let header = word(4)? as usize;
        let part = |offset: u32, length: u32| {
            let start = header + offset as usize;
            let range: Range<usize> = start..start + length as usize;
            bytes.get(range).ok_or(Damaged { at: start })
        };
        let mut this = Self {
            types: part(word(8)?, word(12)?)?,
            names: part(word(16)?, word(20)?)?,
            records: vec![0],
            structures: HashMap::new(),
        };
        let mut at = 0;
        while at < this.types.len() {
            let id = this.records.len() as u32;
            let record = this.record_at(at).ok_or(Damaged { at: header + at })?;
            if matches!(record.kind, KIND_STRUCT | KIND_UNION) && record.name != 0 {
                this.structures.entry(this.name(record.name)).or_insert(id);
            }
            this.records.push(at);
            at = record.rest + extra(record.kind, record.count);
        }
        Ok(this)
    }

    /// Offset in bytes of a member of a structure; `a.b` is member `b` of the structure `a`. Members of anonymous
    /// structures and unions are found as in C.
    pub fn offset(&self, structure: &str, member: &str) -> Option<u32> {
        let mut id = *self.structures.get(structure.as_bytes())?;
        let mut bits = 0;
        for name in member.split('.') {
            let (offset, target) = self.member(id, name.as_bytes(), NESTING)?;
            bits += offset;
            id = target;
        }
        (bits % 8 == 0).then_some(bits / 8)
    }

    /// A BTF of its own with these tracepoints and functions alone, each under the number that it has here, and whether it has
    /// them all: to look numbers up, a loader would else read all types once more.
    pub fn excerpt(&self, tracepoints: &[&str], functions: &[&str]) -> (Vec<u8>, bool) {
        let among = |names: &[&str], name: &[u8]| names.iter().any(|wanted| wanted.as_bytes() == name);
        let wanted = |record: &Record| match record.kind {
            KIND_TYPEDEF => {
                self.name(record.name).strip_prefix(TRACEPOINT).is_some_and(|name| among(tracepoints, name))
            }
            KIND_FUNC => among(functions, self.name(record.name)),
            _ => false,
        };
        let (mut types, mut names) = (Vec::new(), vec![0]);
        let (mut length, mut missing) = (0, tracepoints.len() + functions.len());
        let mut found = Vec::new();
        for record in self.records.iter().skip(1).filter_map(|at| self.record_at(*at)) {
            let kept = wanted(&record);
            // What is left out is a declaration without a name.
            let name = if kept { names.len() as u32 } else { 0 };
            let kind = if kept { record.kind } else { KIND_FWD };
            types.extend([name, kind << 24, 0].into_iter().flat_map(u32::to_ne_bytes));
            if kept {
                names.extend_from_slice(self.name(record.name));
                names.push(0);
                length = types.len();
                // Several functions may have one name.
                if !found.contains(&(kind, self.name(record.name))) {
                    found.push((kind, self.name(record.name)));
                    missing -= 1;
                }
            }
            if missing == 0 {
                break;
            }
        }
        types.truncate(length);
        let version = u32::from(MAGIC) | 1 << 16;
        let header = [version, HEADER, 0, length as u32, length as u32, names.len() as u32];
        let bytes = header.into_iter().flat_map(u32::to_ne_bytes).chain(types).chain(names).collect();
        (bytes, missing == 0)
    }

    /// Size in bytes of a structure or union.
    pub fn size(&self, structure: &str) -> Option<u32> {
        let id = *self.structures.get(structure.as_bytes())?;
        word(self.types, *self.records.get(id as usize)? + 8)
    }

    /// Which parameter of a function has this name.
    pub fn parameter(&self, function: &str, parameter: &str) -> Option<u32> {
        let is_it =
            |record: &Record| record.kind == KIND_FUNC && self.name(record.name) == function.as_bytes();
        let found = self.records.iter().skip(1).filter_map(|at| self.record_at(*at)).find(is_it)?;
        let signature = self.record_at(*self.records.get(found.target as usize)?)?;
        let name = |index: usize| word(self.types, signature.rest + index * 8).map(|name| self.name(name));
        let index = (0..signature.count).find(|index| name(*index) == Some(parameter.as_bytes()))?;
        u32::try_from(index).ok()
    }

    /// Offset in bits and type of a member.
    fn member(&self, id: u32, name: &[u8], nesting: u32) -> Option<(u32, u32)> {
        let record = self.structure(id)?;
        for index in 0..record.count {
            let at = record.rest + index * 12;
            let own = word(self.types, at)?;
            let target = word(self.types, at + 4)?;
            let mut offset = word(self.types, at + 8)?;
            if record.bit_fields {
                offset &= 0x00ff_ffff;
            }
            if own != 0 && self.name(own) == name {
                return Some((offset, target));
            }
            if own == 0
                && nesting > 0
                && let Some((inner, target)) = self.member(target, name, nesting - 1)
            {
                return Some((offset + inner, target));
            }
        }
        None
    }

    /// The structure or union that a type is, behind its qualifiers.
    fn structure(&self, mut id: u32) -> Option<Record> {
        for _ in 0..NESTING {
            let record = self.record_at(*self.records.get(id as usize)?)?;
            match record.kind {
                KIND_STRUCT | KIND_UNION => return Some(record),
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = record.target
                }
                _ => return None,
            }
        }
        None
    }

    fn record_at(&self, at: usize) -> Option<Record> {
        let info = word(self.types, at + 4)?;
        Some(Record {
            name: word(self.types, at)?,
            kind: info >> 24 & 0x1f,
            count: (info & 0xffff) as usize,
            bit_fields: info >> 31 != 0,
            target: word(self.types, at + 8)?,
            rest: at + 12,
        })
    }

    fn name(&self, offset: u32) -> &'a [u8] {
        let rest = self.names.get(offset as usize..).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// Length of what follows a type's common part.
fn extra(kind: u32, count: usize) -> usize {
    match kind {
        KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
        KIND_ARRAY => 12,
        KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * count,
        KIND_ENUM | KIND_FUNC_PROTO => 8 * count,
        _ => 0,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BTF of `struct outer { int a; struct { struct inner b; }; }; struct inner { int x; const int y; };`.
    fn sample() -> Vec<u8> {
        let names = b"\0int\0outer\0a\0inner\0b\0x\0y\0";
        let at = |name: &str| {
            let wanted = [&[0], name.as_bytes(), &[0]].concat();
            names.windows(wanted.len()).position(|part| part == wanted).unwrap() as u32 + 1
        };
        let structure = |count: u32| KIND_STRUCT << 24 | count;
        let types: Vec<u32> = [
            vec![at("int"), KIND_INT << 24, 4, 32],
            vec![at("outer"), structure(2), 12, at("a"), 1, 0, 0, 3, 32],
            vec![0, structure(1), 8, at("b"), 4, 0],
            vec![at("inner"), structure(2), 8, at("x"), 1, 0, at("y"), 5, 32],
            vec![0, KIND_CONST << 24, 1],
        ]
        .concat();
        let length = types.len() as u32 * 4;
        let header = [u32::from(MAGIC) | 1 << 16, 24, 0, length, length, names.len() as u32];
        let words = header.iter().chain(&types).flat_map(|word| word.to_ne_bytes());
        words.chain(names.iter().copied()).collect()
    }

    #[test]
    fn members_are_found_through_anonymous_structures() {
        let bytes = sample();
        let types = Types::parse(&bytes).unwrap();
        let cases = [
            ("outer", "a", Some(0)),
            ("outer", "b", Some(4)),
            ("outer", "b.y", Some(8)),
            ("inner", "y", Some(4)),
        ];
        for (structure, member, offset) in cases {
            assert_eq!(types.offset(structure, member), offset, "{structure}.{member}");
        }
        for (structure, member) in [("outer", "x"), ("outer", "a.x"), ("missing", "a"), ("outer", "")] {
            assert_eq!(types.offset(structure, member), None, "{structure}.{member}");
        }
    }

    #[test]
    fn an_excerpt_has_the_numbers_of_the_whole() {
        let Ok(bytes) = std::fs::read(VMLINUX) else { return };
        let whole = Types::parse(&bytes).unwrap();
        let (excerpt, complete) = whole.excerpt(&["sys_exit", "task_newtask"], &["cap_capable"]);
        assert!(complete && excerpt.len() < bytes.len() / 2);
        assert!(!whole.excerpt(&["sys_exit", "no_such"], &[]).1);
        assert!(aya::Btf::parse(&excerpt, aya::Endianness::default()).is_ok());
        let excerpt = Types::parse(&excerpt).unwrap();
        for (name, kind) in [
            ("btf_trace_sys_exit", KIND_TYPEDEF),
            ("btf_trace_task_newtask", KIND_TYPEDEF),
            ("cap_capable", KIND_FUNC),
        ] {
            let number = |types: &Types<'_>| {
                types.records.iter().position(|at| {
                    types.record_at(*at).is_some_and(|record| {
                        record.kind == kind && types.name(record.name) == name.as_bytes()
                    })
                })
            };
            assert!(number(&excerpt).is_some(), "{name}");
            assert_eq!(number(&excerpt), number(&whole), "{name}");
        }
        assert_eq!(excerpt.offset("task_struct", "comm"), None);
    }

    #[test]
    fn any_cut_is_an_error_or_harmless() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert!(Types::parse(&bytes[..length]).is_err(), "cut to {length} bytes");
        }
    }
}
