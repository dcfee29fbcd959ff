// SPDX-License-Identifier: GPL-2.0-only
//! Memory that a driver may take in one piece (mm/cma.c): what is in it has to go elsewhere. Nothing
//! here allocates.

use crate::system_file;
use operations::StepResult;
use std::ffi::CStr;
use std::path::Path;

/// The area that `cma=` reserves (mm/cma_debug.c, kernel/dma/contiguous.c).
const AREA: &str = "/sys/kernel/debug/cma/reserved";
const LARGEST: &CStr = c"/sys/kernel/debug/cma/reserved/maxchunk";
const TAKE: &CStr = c"/sys/kernel/debug/cma/reserved/alloc";
const GIVE_BACK: &CStr = c"/sys/kernel/debug/cma/reserved/free";

/// Whether there is some.
pub fn is_there() -> bool {
    Path::new(AREA).exists()
}

/// A step: all of it is taken, but for what a driver has, and given back.
pub fn take_and_give_back() -> StepResult {
    let take = || {
        let pages = system_file::number(LARGEST)?;
        let mut digits = [0; 20];
        let digits = crate::perform::decimal(pages, &mut digits);
        system_file::write(TAKE, digits)?;
        system_file::write(GIVE_BACK, digits)
    };
    match take() {
        Ok(()) => StepResult::Ok,
        Err(errno) => StepResult::Errno(errno),
    }
}
