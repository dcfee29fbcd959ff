// SPDX-License-Identifier: GPL-2.0-only
/*
 * tlbdiff: pages of a driver's that processes have mapped (VM_PFNMAP), and that
 * the driver takes back when it likes, as one does whose device is reset.
 */
#include <linux/atomic.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/mm.h>

#include "tlbdiff.h"

#define PAGES_ORDER	4

/* As long as the file is open, which mappings of it keep so. */
static struct page *pages;

static struct page *pages_get(void)
{
	struct page *fresh;

	if (READ_ONCE(pages))
		return pages;
	fresh = alloc_pages(GFP_KERNEL | __GFP_ZERO, PAGES_ORDER);
	if (fresh && cmpxchg(&pages, NULL, fresh))
		__free_pages(fresh, PAGES_ORDER);
	return READ_ONCE(pages);
}

/* No lock of ours: the caller holds mmap_lock. */
int pages_map(struct vm_area_struct *vma)
{
	unsigned long size = vma->vm_end - vma->vm_start;
	struct page *first;

	if (vma->vm_pgoff || size > PAGE_SIZE << PAGES_ORDER)
		return -EINVAL;
	first = pages_get();
	if (!first)
		return -ENOMEM;
	return remap_pfn_range(vma, vma->vm_start, page_to_pfn(first), size,
			       vma->vm_page_prot);
}

/* From all processes that have them mapped. */
int pages_zap(struct file *file, u64 start, u64 length)
{
	if (!length || !PAGE_ALIGNED(start) || !PAGE_ALIGNED(length) ||
	    start > PAGE_SIZE << PAGES_ORDER ||
	    length > PAGE_SIZE << PAGES_ORDER)
		return -EINVAL;
	unmap_mapping_range(file->f_mapping, start, length, 1);
	return 0;
}

void pages_free(void)
{
	if (pages)
		__free_pages(pages, PAGES_ORDER);
	pages = NULL;
}
