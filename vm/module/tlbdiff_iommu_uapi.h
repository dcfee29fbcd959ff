/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * What the module that drives an IOMMU and the agent share. As tlbdiff_uapi.h.
 *
 * What it sees of the IOMMU's cache after each step goes into the trace, as records
 * of TLBDIFF_HELD. By its own device, steps have a device access memory.
 */
#ifndef TLBDIFF_IOMMU_UAPI_H
#define TLBDIFF_IOMMU_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define TLBDIFF_IOMMU_DEVICE	"tlbdiff-iommu"

/* What an access came to. */
enum tlbdiff_dma_result {
	TLBDIFF_DMA_OK		= 0,
	TLBDIFF_DMA_FAULT	= 1,	/* refused, and reported so: cause */
	TLBDIFF_DMA_LOST	= 2,	/* refused, and nobody was told */
	TLBDIFF_DMA_ASTRAY	= 3,	/* another frame than the page's */
	TLBDIFF_DMA_SAW		= 4,	/* another byte than expected: value */
};

#define TLBDIFF_DMA_WRITE	0x1u
#define TLBDIFF_DMA_EXPECT	0x2u	/* of a read: value is to be seen */

/* So many pages at once. */
#define TLBDIFF_DMA_PAGES	64

/* The first byte of each page, in ascending order, up to the first that fails. */
struct tlbdiff_dma {
	__u64 mm;		/* as records name it */
	__u64 start;		/* bytes, a whole page */
	__u64 pages;
	__u32 flags;		/* TLBDIFF_DMA_* */
	__u32 value;		/* in: to write, or expected; out: seen */
	__u32 result;		/* out: enum tlbdiff_dma_result */
	__u32 cause;		/* out: as in the IOMMU's fault queue */
	__u64 at;		/* out: the page that failed */
};

#define TLBDIFF_IOC_DMA		_IOWR('t', 32, struct tlbdiff_dma)

#endif
