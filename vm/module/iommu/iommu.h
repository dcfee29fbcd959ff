/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A RISC-V IOMMU, driven so that its cache can be looked into.
 *
 * bound.c	which mms it translates for, what it has cached of each, and how
 *		notifications become commands
 * devices.c	the two devices behind it: one that reads fast, and one whose reads
 *		and writes can be seen
 * hardware.c	its registers, queues, contexts, and its debug interface
 * main.c	/dev/tlbdiff-iommu, loading and unloading
 *
 * Names and numbers are those of the RISC-V IOMMU Architecture Specification 1.0.
 */
#ifndef TLBDIFF_IOMMU_H
#define TLBDIFF_IOMMU_H

#include <linux/mm_types.h>
#include <linux/types.h>

/* PSCIDs are given out from 1 on, the smallest that is free. */
#define PSCIDS		64

/* The hardware. Commands from any context, all else one at a time, may sleep. */
int hardware_start(void);
void hardware_stop(void);
void hardware_aim(u32 pscid, struct mm_struct *mm);
void hardware_aim_nowhere(void);
void hardware_aim_physical(void);
bool hardware_has(unsigned long addr);
bool hardware_fault(u32 *cause, unsigned long *addr);
void hardware_invalidate(u32 pscid);
void hardware_invalidate_page(u32 pscid, unsigned long addr);
void hardware_invalidate_all(void);
void hardware_fence(void);

/* What it failed at since it was asked last; TLBDIFF_FAILED_*, 0 for nothing. */
u32 hardware_error(u64 *value);
bool hardware_is_failing(void);
void hardware_failed(u32 error, u64 value);

/* The devices. One at a time, may sleep. */
int devices_start(void);
void devices_stop(void);
void devices_ids(u32 ids[2]);
void device_touch(unsigned long addr);
int device_copy(bool to_memory, u64 addr, unsigned int offset,
		unsigned int length);

struct tlbdiff_dma;

/* Commands that follow from notifications. */
enum policy {
	POLICY_LEAF,
	POLICY_EXACT,
	POLICY_ALL,
	POLICY_NONE,
};

int bound_start(enum policy policy);
void bound_stop(void);
long bound_dma(struct tlbdiff_dma *dma);

#endif
