// SPDX-License-Identifier: GPL-2.0-only
//! `mm/khugepaged.c`, a part: folios of sizes below 2 MiB, which khugepaged makes from 7.2 on.

use crate::api::PAGE_SIZE;
use crate::mm::khugepaged::{ScanResult, collapse_huge_page};
use crate::mm::memory::fault::SMALLEST_LARGE;
use crate::mm::swapfile::PMD_ORDER;
use crate::mm_types::{HPAGE_PMD_NR, Vma};
use crate::state::Kernel;

/// What `collapse_scan_pmd()` has found out.
pub struct Scanned<'a> {
    /// `enabled_orders`
    pub orders: &'a [u32],
    /// `mthp_present_ptes`: which pages are neither missing nor on swap.
    pub present: Vec<bool>,
    /// How many are on swap.
    pub unmapped: u32,
}

/// `mthp_collapse()`: the largest folios that are allowed and that enough is there for, from one
/// end of the page table to the other.
pub fn mthp_collapse(
    k: &mut Kernel<'_>,
    vma: &Vma,
    address: u64,
    scanned: &Scanned<'_>,
    is_khugepaged: bool,
) -> ScanResult {
    let (mut offset, mut order) = (0, PMD_ORDER);
    let (mut collapsed, mut last_result) = (false, ScanResult::Fail);
    while offset < HPAGE_PMD_NR {
        let mut next_offset = false;
        if scanned.orders.contains(&order) && enough(k, scanned, offset, order, is_khugepaged) {
            let at = address + offset as u64 * PAGE_SIZE;
            let unmapped = scanned.unmapped > 0;
            match collapse_huge_page(k, vma, (at, order), unmapped, is_khugepaged) {
                ScanResult::Succeed => (collapsed, next_offset) = (true, true),
                ScanResult::PteMappedHugepage => next_offset = true,
                // Cases where lower orders might still succeed
                result @ (ScanResult::LackReferencedPage
                | ScanResult::ExceedNonePte
                | ScanResult::ExceedSwapPte
                | ScanResult::ExceedSharedPte
                | ScanResult::PageCount
                | ScanResult::PageNull
                | ScanResult::DelPageLru
                | ScanResult::PteNonPresent
                | ScanResult::PageLazyfree) => last_result = result,
                result => {
                    last_result = result;
                    break;
                }
            }
        }
        let smaller = scanned.orders.iter().any(|&enabled| enabled < order);
        if !next_offset && order > SMALLEST_LARGE && smaller {
            order -= 1;
            continue;
        }
        offset += 1 << order;
        order = max_order_from_offset(offset);
    }
    match collapsed {
        true => ScanResult::Succeed,
        false => last_result,
    }
}

/// Whether no more is missing than `collapse_max_ptes_none()` says.
fn enough(
    k: &Kernel<'_>,
    scanned: &Scanned<'_>,
    offset: usize,
    order: u32,
    is_khugepaged: bool,
) -> bool {
    let nr_ptes = 1usize << order;
    let present = &scanned.present[offset..offset + nr_ptes];
    let mut occupied = present.iter().filter(|present| **present).count() as u32;
    if order == PMD_ORDER {
        occupied += scanned.unmapped;
    }
    occupied + collapse_max_ptes_none(k, order, is_khugepaged) >= nr_ptes as u32
}

/// `collapse_max_ptes_none()`, where no userfaultfd is asked.
pub fn collapse_max_ptes_none(k: &Kernel<'_>, order: u32, is_khugepaged: bool) -> u32 {
    let limit = HPAGE_PMD_NR as u32 - 1;
    match (is_khugepaged, order) {
        (false, _) => HPAGE_PMD_NR as u32,
        (true, PMD_ORDER) => k.thp.max_ptes_none,
        // KHUGEPAGED_MAX_PTES_LIMIT
        (true, order) if k.thp.max_ptes_none == limit => (1 << order) - 1,
        (true, _) => 0,
    }
}

/// `max_order_from_offset()`
fn max_order_from_offset(offset: usize) -> u32 {
    match offset {
        0 => PMD_ORDER,
        offset => offset.trailing_zeros().min(PMD_ORDER),
    }
}
