// SPDX-License-Identifier: GPL-2.0-only
//! Which functions of a kernel call which, by the instructions of its image: with what the
//! compiler inlined, for that configuration, and nothing that is not built.
//!
//! Direct calls and jumps alone; who calls by a pointer is not found.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use crate::artifacts::Artifacts;

/// A place in the kernel's text from which a function is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallSite {
    /// The function that is called.
    pub calls: String,
    /// The one that calls it.
    pub within: String,
    /// Where the call returns to; none where it is a jump, and returns to who called `within`.
    pub returns: Option<u64>,
}

/// A function's name without what the compiler puts behind it for a part or a copy.
pub fn function_name(symbol: &str) -> &str {
    symbol.split('.').next().unwrap_or(symbol)
}

impl Artifacts {
    /// Where functions of these names are called from, in the order of the text.
    ///
    /// # Errors
    /// The image, or its System.map, cannot be read.
    pub fn call_sites(&self, names: &dyn Fn(&str) -> bool) -> io::Result<Vec<CallSite>> {
        let text = Text::read(self)?;
        Ok(text.call_sites(names))
    }

    /// Where functions and data of the kernel are; of those with the same name, the first.
    ///
    /// # Errors
    /// The System.map cannot be read.
    pub fn symbols(&self) -> io::Result<BTreeMap<String, u64>> {
        let mut symbols = BTreeMap::new();
        for (address, _, name) in parse_map(&self.system_map()?) {
            symbols.entry(name.to_owned()).or_insert(address);
        }
        Ok(symbols)
    }

    /// What the kernel was built with, as its configuration says; empty where that is not kept.
    pub fn compiler(&self) -> String {
        let config = self.config().unwrap_or_default();
        let mut lines = config.lines();
        let said = lines.find_map(|line| line.strip_prefix("CONFIG_CC_VERSION_TEXT="));
        said.unwrap_or_default().trim_matches('"').to_owned()
    }

    fn system_map(&self) -> io::Result<String> {
        let path = self.build().unwrap_or(Path::new("")).join("System.map");
        let told =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        fs::read_to_string(&path).map_err(told)
    }
}

/// The lines of a System.map: address, type and name.
fn parse_map(text: &str) -> impl Iterator<Item = (u64, &str, &str)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = u64::from_str_radix(words.next()?, 16).ok()?;
        Some((address, words.next()?, words.next()?))
    })
}

/// A kernel's instructions, and its functions.
struct Text {
    image: Vec<u8>,
    /// The address of the image's first byte.
    base: u64,
    /// Beginnings, in order, each with its name.
    functions: Vec<(u64, String)>,
    end: u64,
}

impl Text {
    fn read(artifacts: &Artifacts) -> io::Result<Text> {
        let image = fs::read(&artifacts.image)?;
        Text::of(image, &artifacts.system_map()?)
            .ok_or_else(|| io::Error::other("its System.map does not say where the text is"))
    }

    fn of(image: Vec<u8>, map: &str) -> Option<Text> {
        let find = |name: &str| parse_map(map).find(|it| it.2 == name).map(|it| it.0);
        let (base, begin, end) = (find("_start")?, find("_stext")?, find("_etext")?);
        let functions = parse_map(map)
            .filter(|(address, kind, name)| {
                let function = ["t", "T", "w", "W"].contains(kind);
                function && (begin..end).contains(address) && !name.starts_with(['$', '.'])
            })
            .map(|(address, _, name)| (address, name.to_owned()));
        let mut functions: Vec<_> = functions.collect();
        functions.sort();
        Some(Text {
            image,
            base,
            functions,
            end,
        })
    }

    fn call_sites(&self, names: &dyn Fn(&str) -> bool) -> Vec<CallSite> {
        let called = |it: &&(u64, String)| !it.1.contains(".cold") && names(function_name(&it.1));
        let targets: BTreeMap<u64, &str> = self
            .functions
            .iter()
            .filter(called)
            .map(|(address, name)| (*address, function_name(name)))
            .collect();
        let mut sites = Vec::new();
        for (index, (begin, name)) in self.functions.iter().enumerate() {
            let next = self.functions.get(index + 1);
            // Of several names for the same place the last is taken.
            let end = next.map_or(self.end, |(next, _)| *next);
            self.transfers(*begin, end, &mut |target, returns| {
                if let Some(calls) = targets.get(&target) {
                    sites.push(CallSite {
                        calls: (*calls).to_owned(),
                        within: function_name(name).to_owned(),
                        returns,
                    });
                }
            });
        }
        // A loop to its own beginning is no call.
        sites.retain(|site| site.returns.is_some() || site.calls != site.within);
        sites
    }

    /// Each call and jump in a range: where to, and where it returns to.
    fn transfers(&self, begin: u64, end: u64, found: &mut dyn FnMut(u64, Option<u64>)) {
        let mut upper = [None; 32];
        let mut at = begin;
        while at < end {
            let Some(low) = self.half(at) else { return };
            if low & 3 != 3 {
                if low & 0xe003 == 0xa001 {
                    found(at.wrapping_add_signed(offset_of_c_j(low)), None);
                }
                at += 2;
                continue;
            }
            let Some(high) = self.half(at + 2) else {
                return;
            };
            let insn = low | high << 16;
            let (rd, rs1) = (insn >> 7 & 31, insn >> 15 & 31);
            let returns = (rd == 1).then_some(at + 4);
            match insn & 0x7f {
                0x17 => {
                    let by = i64::from((insn & 0xffff_f000) as i32);
                    upper[rd as usize] = Some(at.wrapping_add_signed(by));
                }
                0x67 if rd < 2 => {
                    let by = i64::from(insn as i32 >> 20);
                    if let Some(upper) = upper[rs1 as usize] {
                        found(upper.wrapping_add_signed(by), returns);
                    }
                }
                0x6f if rd < 2 => found(at.wrapping_add_signed(offset_of_jal(insn)), returns),
                _ => {}
            }
            at += 4;
        }
    }

    /// 16 bits of the text.
    fn half(&self, address: u64) -> Option<u32> {
        let at = usize::try_from(address.checked_sub(self.base)?).ok()?;
        let bytes = self.image.get(at..at + 2)?;
        Some(u32::from(bytes[0]) | u32::from(bytes[1]) << 8)
    }
}

/// Bits of an instruction, moved to where they stand in its offset.
fn bits(insn: u32, from: u32, count: u32, to: u32) -> i64 {
    i64::from(insn >> from & ((1 << count) - 1)) << to
}

fn offset_of_jal(insn: u32) -> i64 {
    let sign = -bits(insn, 31, 1, 20);
    sign | bits(insn, 12, 8, 12) | bits(insn, 20, 1, 11) | bits(insn, 21, 10, 1)
}

fn offset_of_c_j(insn: u32) -> i64 {
    let sign = -bits(insn, 12, 1, 11);
    sign | bits(insn, 11, 1, 4)
        | bits(insn, 9, 2, 8)
        | bits(insn, 8, 1, 10)
        | bits(insn, 7, 1, 6)
        | bits(insn, 6, 1, 7)
        | bits(insn, 3, 3, 1)
        | bits(insn, 2, 1, 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "ffffffff80000000 T _start\nffffffff80000000 T _stext\n\
                       ffffffff80000000 t caller.isra.0\nffffffff80000010 t other\n\
                       ffffffff80000016 T called\nffffffff80000020 T _etext\n\
                       ffffffff80000020 D data\n";

    #[test]
    fn calls_and_jumps_are_found_with_where_they_return_to() {
        let mut image = Vec::new();
        // caller: auipc ra,0; jalr ra,22(ra) -- nop; c.nop; c.nop
        for insn in [0x0000_0097u32, 0x0160_80e7] {
            image.extend(insn.to_le_bytes());
        }
        // jal ra, +14 (called), c.nop x2
        image.extend(0x00e0_00efu32.to_le_bytes());
        image.extend([0x01, 0x00, 0x01, 0x00]);
        // other: jal zero, +6; c.nop
        image.extend(0x0060_006fu32.to_le_bytes());
        image.extend([0x01, 0x00]);
        // called: c.jr ra
        image.extend([0x82, 0x80]);
        image.resize(32, 0);
        let text = Text::of(image, MAP).expect("a text");
        let sites = text.call_sites(&|name| name == "called");
        let site = |within: &str, returns: Option<u64>| CallSite {
            calls: "called".to_owned(),
            within: within.to_owned(),
            returns,
        };
        assert_eq!(
            sites,
            [
                site("caller", Some(0xffff_ffff_8000_0008)),
                site("caller", Some(0xffff_ffff_8000_000c)),
                site("other", None),
            ]
        );
    }

    #[test]
    fn what_the_compiler_puts_behind_a_name_is_no_part_of_it() {
        assert_eq!(function_name("f.constprop.0.isra.0"), "f");
        assert_eq!(function_name("f"), "f");
    }

    #[test]
    fn offsets_backwards_are_negative() {
        assert_eq!(offset_of_jal(0xff9f_f0ef), -8);
        assert_eq!(offset_of_c_j(0xbff5), -4);
    }
}
