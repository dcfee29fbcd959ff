// SPDX-License-Identifier: GPL-2.0-only
//! Which forms of `arch/riscv/mm/tlbflush.c` the model was read for.

/// Its functions, each with the FNV-1a of its words in the releases that were read: 6.12, with
/// d9be2b9b6049 and without, 7.2 and 7.3. Those that have moved to a header since are here as they were.
const FORMS: &[(&str, &[u64])] = &[
    (
        "__flush_tlb_range",
        &[0x1d6ea11fe9db6af6, 0x758db2c5b08b3c54],
    ),
    ("__ipi_flush_tlb_all", &[0xb0a1fc9ad88ec663]),
    ("__ipi_flush_tlb_range_asid", &[0xb64f0a28dbf33eeb]),
    ("arch_flush_tlb_batched_pending", &[0x2d10e692d6df58db]),
    (
        "arch_tlbbatch_add_pending",
        &[0x5ac4b16b6b92b12f, 0x722f2f61da0bfb94, 0x97868432c78898a7],
    ),
    ("arch_tlbbatch_flush", &[0xa37303d12c71db4e]),
    ("arch_tlbbatch_should_defer", &[0x33f1babddd6314fc]),
    ("flush_pmd_tlb_range", &[0xa3d08a0b659817b2]),
    ("flush_pud_tlb_range", &[0xf3d578fc5d990dd2]),
    ("flush_tlb_all", &[0xc36e76eec58d04f5]),
    ("flush_tlb_kernel_range", &[0x51107da271d44bdc]),
    ("flush_tlb_mm", &[0x05e73b7ee327b805]),
    ("flush_tlb_mm_range", &[0x8b6cfc477b6aaf31]),
    ("flush_tlb_page", &[0xfd181f1973766caf]),
    ("flush_tlb_range", &[0xa6d92ea986d56277]),
    ("get_mm_asid", &[0x687a14b60e9b3b63]),
    ("local_flush_tlb_kernel_range", &[0x9d15ddeaded55235]),
    ("local_flush_tlb_range_asid", &[0x269ee088cfe66bc5]),
    (
        "local_flush_tlb_range_threshold_asid",
        &[0x19be6758ec363c0e, 0x35d1ea11759bd3ea],
    ),
    ("local_sfence_inval_ir", &[0xba11aad0ca13e1ca]),
    ("local_sfence_w_inval", &[0x75b53410a0fef36a]),
    ("local_sinval_vma", &[0x05a9db70902a93eb]),
];

/// Whether the model was read for a function of that file in this form: its words without
/// comments, from the first one of its definition to its closing brace.
pub fn is_known(function: &str, words: &[&str]) -> bool {
    let known = FORMS.iter().find(|(name, _)| *name == function);
    known.is_some_and(|(_, forms)| forms.contains(&form(words)))
}

/// FNV-1a of words, none of which can run into the next.
pub fn form(words: &[&str]) -> u64 {
    let bytes = words.iter().flat_map(|word| word.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_word_is_another_form() {
        assert_ne!(form(&["a", "b"]), form(&["ab"]));
        assert_ne!(form(&["a", "b"]), form(&["a", "c"]));
        assert!(!is_known("flush_tlb_mm", &["void"]));
        assert!(!is_known("no_such_function", &[]));
    }
}
