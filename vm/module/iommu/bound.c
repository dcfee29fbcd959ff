// SPDX-License-Identifier: GPL-2.0-only
/*
 * The mms that the IOMMU translates for, each with a PSCID, and what its cache has
 * of each PSCID: after each step it is asked about every page that was ever loaded,
 * what it still has is recorded, and then all that the page tables hold is loaded.
 *
 * What notifications become is the policy's matter:
 *
 * leaf		a command for each page of 4 KiB of a range, for the whole PSCID above
 *		512 of them. Pages of which nothing was loaded are left out
 * exact	a command for each leaf of which something was loaded
 * all		a command for the whole PSCID
 * none		no command, not at the mm's end either
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/highmem.h>
#include <linux/idr.h>
#include <linux/list.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/wait_bit.h>
#include <linux/xarray.h>

#include "../tlbdiff.h"
#include "../tlbdiff_iommu_uapi.h"
#include "iommu.h"

/* So many pages at the most are invalidated one by one. */
#define SINGLE_PAGES	512

/*
 * So many pages of a PSCID are loaded at the most: QEMU looks at all that it has
 * cached for each command, and a step that takes too long is cut short.
 */
#define LOADED_PAGES	2048

/* A translation in one word: the entry's low bits, its size, and its frame. */
#define FLAG_BITS	10
#define ORDER_BITS	6
#define FLAGS		GENMASK(FLAG_BITS - 1, 0)
#define ORDERS		GENMASK(FLAG_BITS + ORDER_BITS - 1, FLAG_BITS)
#define FRAME_SHIFT	(FLAG_BITS + ORDER_BITS)

/* An mm. Stays until no callback can come any more. */
struct bound {
	struct list_head list;
	struct mm_struct *mm;
	u64 number;
	u32 pscid;
	bool over;		/* the device does not get there any more */
	struct mmu_notifier notifier;
	struct xarray now;	/* leaves, by their first pages */
};

/* What is cached of a PSCID, by page: as it was loaded. */
struct cached {
	struct xarray pages;
	unsigned long count;
};

static enum policy policy;

/* Over all that follows, and over the devices. Notifiers do without. */
static DEFINE_MUTEX(lock);
static LIST_HEAD(all_bound);
static DEFINE_IDA(pscids);

static struct cached held[PSCIDS];

/* Whom devices are aimed at; NULL for nobody. */
static struct bound *aimed;

static atomic_t allocated = ATOMIC_INIT(0);
static bool no_memory;

static unsigned long pack(unsigned long entry, unsigned int order,
			  unsigned long frame)
{
	return (entry & FLAGS) | (unsigned long)order << FLAG_BITS |
	       frame << FRAME_SHIFT;
}

static unsigned int order_of(unsigned long packed)
{
	return (packed & ORDERS) >> FLAG_BITS;
}

static unsigned long frame_of(unsigned long packed)
{
	return packed >> FRAME_SHIFT;
}

static unsigned long entry_frame(unsigned long entry)
{
	return (entry & _PAGE_PFN_MASK) >> _PAGE_PFN_SHIFT;
}

static void put_word(struct xarray *words, unsigned long index,
		     unsigned long packed, gfp_t gfp)
{
	if (xa_is_err(xa_store(words, index, xa_mk_value(packed), gfp)))
		no_memory = true;
}

/* The translation that was loaded for a page; 0 for none. */
static unsigned long get_word(struct xarray *words, unsigned long index)
{
	void *word = xa_load(words, index);

	return word ? xa_to_value(word) : 0;
}

static void aim(struct bound *bound)
{
	if (bound && !READ_ONCE(bound->over))
		hardware_aim(bound->pscid, bound->mm);
	else
		hardware_aim_nowhere();
	aimed = bound;
}

/* A command for each page, or leaf, that was loaded and reaches into a range. */
static void invalidate_loaded(u32 pscid, unsigned long start,
			      unsigned long end, bool by_leaf)
{
	unsigned long page, first, last = ULONG_MAX;
	void *word;

	xa_for_each_range(&held[pscid].pages, page, word, start >> PAGE_SHIFT,
			  (end - 1) >> PAGE_SHIFT) {
		first = by_leaf ? round_down(page, 1UL << order_of(xa_to_value(word)))
				: page;
		if (first == last)
			continue;
		last = first;
		hardware_invalidate_page(pscid, first << PAGE_SHIFT);
	}
}

static void invalidate(u32 pscid, unsigned long start, unsigned long end)
{
	switch (policy) {
	case POLICY_NONE:
		return;
	case POLICY_LEAF:
		if (start >= end)
			break;
		if (end - start > SINGLE_PAGES * PAGE_SIZE)
			hardware_invalidate(pscid);
		else
			invalidate_loaded(pscid, start, end, false);
		break;
	case POLICY_EXACT:
		if (start < end)
			invalidate_loaded(pscid, start, end, true);
		break;
	case POLICY_ALL:
		hardware_invalidate(pscid);
		break;
	}
	hardware_fence();
}

/* From under page-table locks, on any task. */
static void notified(struct mmu_notifier *notifier, struct mm_struct *mm,
		     unsigned long start, unsigned long end)
{
	struct bound *bound = container_of(notifier, struct bound, notifier);

	if (!READ_ONCE(bound->over))
		invalidate(bound->pscid, start, end);
}

/* The device has nothing to do with this mm any more. */
static void finish(struct bound *bound)
{
	if (bound->over)
		return;
	WRITE_ONCE(bound->over, true);
	if (aimed == bound)
		aim(NULL);
	if (policy != POLICY_NONE) {
		hardware_invalidate(bound->pscid);
		hardware_fence();
	}
	/* From now on another mm may get it. */
	ida_free(&pscids, bound->pscid);
}

static void released(struct mmu_notifier *notifier, struct mm_struct *mm)
{
	mutex_lock(&lock);
	finish(container_of(notifier, struct bound, notifier));
	mutex_unlock(&lock);
}

static void freed(struct mmu_notifier *notifier)
{
	struct bound *bound = container_of(notifier, struct bound, notifier);

	xa_destroy(&bound->now);
	kfree(bound);
	if (atomic_dec_and_test(&allocated))
		wake_up_var(&allocated);
}

static const struct mmu_notifier_ops notifier_ops = {
	.arch_invalidate_secondary_tlbs = notified,
	.release = released,
	.free_notifier = freed,
};

static struct bound *find(struct mm_struct *mm, u64 number)
{
	struct bound *bound;

	list_for_each_entry(bound, &all_bound, list) {
		if (mm ? bound->mm == mm : bound->number == number)
			return bound;
	}
	return NULL;
}

static int bind(struct mm_struct *mm, u64 number)
{
	struct bound *bound;
	int pscid, ret;

	bound = kzalloc(sizeof(*bound), GFP_KERNEL);
	if (!bound)
		return -ENOMEM;
	pscid = ida_alloc_range(&pscids, 1, PSCIDS - 1, GFP_KERNEL);
	if (pscid < 0) {
		kfree(bound);
		return pscid;
	}
	bound->mm = mm;
	bound->number = number;
	bound->pscid = pscid;
	bound->notifier.ops = &notifier_ops;
	xa_init(&bound->now);
	atomic_inc(&allocated);
	ret = mmu_notifier_register(&bound->notifier, mm);
	if (ret) {
		ida_free(&pscids, pscid);
		freed(&bound->notifier);
		return ret;
	}
	mutex_lock(&lock);
	list_add_tail(&bound->list, &all_bound);
	mutex_unlock(&lock);
	return 0;
}

static void unbind(struct mm_struct *mm)
{
	struct bound *bound;

	mutex_lock(&lock);
	bound = find(mm, 0);
	if (bound) {
		finish(bound);
		list_del(&bound->list);
	}
	mutex_unlock(&lock);
	if (bound)
		mmu_notifier_put(&bound->notifier);
}

static void forget(struct cached *cached)
{
	xa_destroy(&cached->pages);
	cached->count = 0;
}

/* Nothing is left of what was traced before. */
static void begin(void)
{
	int i;

	mutex_lock(&lock);
	hardware_invalidate_all();
	hardware_fence();
	for (i = 0; i < PSCIDS; i++)
		forget(&held[i]);
	mutex_unlock(&lock);
}

/* From under the table's lock. Who binds and unbinds does not while steps are marked. */
static void leaf(struct mm_struct *mm, unsigned long addr, unsigned long size,
		 unsigned long entry)
{
	struct bound *bound = find(mm, 0);

	if (bound)
		put_word(&bound->now, addr >> PAGE_SHIFT,
			 pack(entry, ilog2(size >> PAGE_SHIFT),
			      entry_frame(entry)), GFP_ATOMIC);
}

/* Pages that follow each other, loaded from entries that do. */
struct run {
	unsigned long first;
	unsigned long pages;	/* 0 for none */
	unsigned long packed;
};

static void end_run(struct run *run, struct mm_struct *mm)
{
	struct tlbdiff_record rec = {
		.kind = TLBDIFF_HELD,
		.start = run->first << PAGE_SHIFT,
		.end = (run->first + run->pages) << PAGE_SHIFT,
		.arg = (run->packed & FLAGS) |
		       frame_of(run->packed) << _PAGE_PFN_SHIFT,
		.cpumask = PAGE_SIZE << order_of(run->packed),
	};

	if (run->pages)
		tlbdiff_secondary_add(&rec, mm);
	run->pages = 0;
}

static void add_to_run(struct run *run, struct mm_struct *mm,
		       unsigned long page, unsigned long packed)
{
	unsigned long next = run->packed + (run->pages << FRAME_SHIFT);

	if (run->pages && (page != run->first + run->pages || packed != next))
		end_run(run, mm);
	if (!run->pages) {
		run->first = page;
		run->packed = packed;
	}
	run->pages++;
}

/* Asks for every page that was loaded, and forgets those that it has not any more. */
static void look(struct bound *bound)
{
	struct cached *cached = &held[bound->pscid];
	struct run run = {};
	unsigned long page;
	void *word;

	xa_for_each(&cached->pages, page, word) {
		if (hardware_has(page << PAGE_SHIFT)) {
			add_to_run(&run, bound->mm, page, xa_to_value(word));
			continue;
		}
		xa_erase(&cached->pages, page);
		cached->count--;
	}
	end_run(&run, bound->mm);
}

/* Whether a read would be let through by the page tables as they are. */
static bool readable(unsigned long packed)
{
	return packed & _PAGE_READ && packed & _PAGE_ACCESSED;
}

static void note_loaded(struct cached *cached, unsigned long page,
			unsigned long packed)
{
	cached->count += !get_word(&cached->pages, page);
	put_word(&cached->pages, page, packed, GFP_KERNEL);
}

static void load_leaf(struct bound *bound, unsigned long first,
		      unsigned long packed)
{
	struct cached *cached = &held[bound->pscid];
	unsigned long page, i, pages = 1UL << order_of(packed);

	for (i = 0; i < pages && cached->count < LOADED_PAGES; i++) {
		page = first + i;
		if (get_word(&cached->pages, page))
			continue;
		/* Noted first: who invalidates meanwhile has to know of it. */
		note_loaded(cached, page, packed + (i << FRAME_SHIFT));
		device_touch(page << PAGE_SHIFT);
	}
}

static void load(struct bound *bound)
{
	unsigned long first;
	void *word;

	xa_for_each(&bound->now, first, word) {
		if (readable(xa_to_value(word)))
			load_leaf(bound, first, xa_to_value(word));
	}
	xa_destroy(&bound->now);
}

static void report_errors(struct mm_struct *mm)
{
	struct tlbdiff_record rec = { .kind = TLBDIFF_IOMMU_ERROR };
	u32 error;

	error = hardware_error(&rec.start);
	if (!error && no_memory)
		error = TLBDIFF_FAILED_MEMORY;
	no_memory = false;
	rec.arg = error;
	if (error)
		tlbdiff_secondary_add(&rec, mm);
}

/* Those of loads, which nobody expects. */
static void report_faults(struct mm_struct *mm)
{
	struct tlbdiff_record rec = { .kind = TLBDIFF_IOMMU_FAULT };
	unsigned long addr;
	u32 cause;

	while (hardware_fault(&cause, &addr)) {
		rec.start = addr;
		rec.arg = cause;
		tlbdiff_secondary_add(&rec, mm);
	}
}

static void step_ended(struct mm_struct *mm)
{
	struct bound *bound;

	mutex_lock(&lock);
	bound = find(mm, 0);
	if (bound && !bound->over) {
		aim(bound);
		look(bound);
		load(bound);
		report_faults(mm);
	}
	report_errors(mm);
	mutex_unlock(&lock);
}

static const struct tlbdiff_secondary secondary = {
	.owner = THIS_MODULE,
	.begin = begin,
	.bind = bind,
	.unbind = unbind,
	.leaf = leaf,
	.step_ended = step_ended,
};

/* What a device moves of a page: the byte that is looked at, and which access it was. */
struct parcel {
	u8 value;
	u8 unused[7];
	u64 access;
};

static struct parcel *parcels;

static bool frame_holds(unsigned long frame, const struct parcel *parcel)
{
	return pfn_valid(frame) &&
	       !memcmp(pfn_to_kaddr(frame), parcel, sizeof(*parcel));
}

/* The frame that the page tables have for a page; 0 for none. */
static unsigned long frame_now(struct bound *bound, unsigned long addr,
			       unsigned long *packed)
{
	unsigned long entry, frame, size = PAGE_SIZE;

	entry = bound->over ? 0 : tlbdiff_tables_find(bound->mm, addr, &size);
	if (!entry)
		return 0;
	frame = entry_frame(entry);
	if (entry & _PAGE_NAPOT) {
		size <<= __ffs(frame) + 1;
		frame &= frame - 1;
	}
	frame += (addr & (size - 1)) >> PAGE_SHIFT;
	*packed = pack(entry, ilog2(size >> PAGE_SHIFT), frame);
	return frame;
}

/*
 * Where what was moved is, or came from, if it was not refused. What is read may be
 * the same in both frames: then it came from the one that is cached.
 */
static u32 whereabouts(unsigned long frame, unsigned long cached,
		       const struct parcel *parcel)
{
	if (cached && frame_of(cached) != frame &&
	    frame_holds(frame_of(cached), parcel))
		return TLBDIFF_DMA_ASTRAY;
	if (frame && frame_holds(frame, parcel))
		return TLBDIFF_DMA_OK;
	return TLBDIFF_DMA_LOST;
}

static int copy_physical(bool to_memory, unsigned int count)
{
	hardware_aim_physical();
	return device_copy(to_memory, virt_to_phys(parcels), 0,
			   count * sizeof(*parcels));
}

/* One page, by the contexts that are there. What was cached for it before. */
static int access_page(struct bound *bound, struct tlbdiff_dma *dma,
		       unsigned int i, unsigned long *cached)
{
	unsigned long packed, where, addr = dma->start + i * PAGE_SIZE;
	u32 cause;
	struct cached *all;
	int ret;

	*cached = 0;
	all = bound && !bound->over ? &held[bound->pscid] : NULL;
	if (all && hardware_has(addr))
		*cached = get_word(&all->pages, addr >> PAGE_SHIFT);
	else if (all && frame_now(bound, addr, &packed))
		note_loaded(all, addr >> PAGE_SHIFT, packed);
	ret = device_copy(dma->flags & TLBDIFF_DMA_WRITE, addr,
			  i * sizeof(*parcels), sizeof(*parcels));
	if (ret)
		return ret;
	while (hardware_fault(&cause, &where)) {
		if (dma->result)
			continue;
		dma->result = TLBDIFF_DMA_FAULT;
		dma->cause = cause;
		/* As reported; of a device without a context no address is. */
		dma->at = where ? where & PAGE_MASK : addr;
	}
	return 0;
}

static void failed_at(struct tlbdiff_dma *dma, unsigned int i, u32 result)
{
	dma->result = result;
	dma->at = dma->start + i * PAGE_SIZE;
}

static int dma_write(struct bound *bound, struct tlbdiff_dma *dma)
{
	unsigned long packed, frame, cached;
	unsigned int i;
	u32 result;
	int ret;

	for (i = 0; i < dma->pages; i++) {
		parcels[i].value = dma->value;
		parcels[i].access = get_random_u64();
	}
	ret = copy_physical(false, dma->pages);
	aim(bound);
	for (i = 0; !ret && i < dma->pages; i++) {
		ret = access_page(bound, dma, i, &cached);
		if (ret || dma->result)
			break;
		frame = bound ? frame_now(bound, dma->start + i * PAGE_SIZE,
					  &packed) : 0;
		result = whereabouts(frame, cached, &parcels[i]);
		if (result) {
			failed_at(dma, i, result);
			break;
		}
	}
	return ret;
}

static int dma_read(struct bound *bound, struct tlbdiff_dma *dma)
{
	unsigned long packed, frame, cached[TLBDIFF_DMA_PAGES];
	unsigned int i, count;
	u32 result;
	int ret = 0;

	aim(bound);
	for (count = 0; !ret && !dma->result && count < dma->pages; count++)
		ret = access_page(bound, dma, count, &cached[count]);
	if (dma->result)
		count--;
	if (!ret && count)
		ret = copy_physical(true, count);
	for (i = 0; !ret && i < count; i++) {
		frame = bound ? frame_now(bound, dma->start + i * PAGE_SIZE,
					  &packed) : 0;
		result = whereabouts(frame, cached[i], &parcels[i]);
		if (!result && dma->flags & TLBDIFF_DMA_EXPECT &&
		    parcels[i].value != dma->value)
			result = TLBDIFF_DMA_SAW;
		if (!result)
			continue;
		dma->value = parcels[i].value;
		failed_at(dma, i, result);
		break;
	}
	return ret;
}

/* An access of the device's, by a step. */
long bound_dma(struct tlbdiff_dma *dma)
{
	struct bound *bound;
	int ret;

	if (!dma->pages || dma->pages > TLBDIFF_DMA_PAGES ||
	    !PAGE_ALIGNED(dma->start) || dma->start + dma->pages * PAGE_SIZE >
	    TASK_SIZE)
		return -EINVAL;
	dma->result = TLBDIFF_DMA_OK;
	mutex_lock(&lock);
	bound = find(NULL, dma->mm);
	if (dma->flags & TLBDIFF_DMA_WRITE)
		ret = dma_write(bound, dma);
	else
		ret = dma_read(bound, dma);
	aim(NULL);
	/* It is reported when the step ends. */
	if (!ret && hardware_is_failing())
		ret = -EIO;
	mutex_unlock(&lock);
	return ret;
}

int bound_start(enum policy chosen)
{
	int i;

	policy = chosen;
	for (i = 0; i < PSCIDS; i++)
		xa_init(&held[i].pages);
	parcels = (struct parcel *)get_zeroed_page(GFP_KERNEL);
	if (!parcels)
		return -ENOMEM;
	i = tlbdiff_secondary_set(&secondary);
	if (i)
		free_page((unsigned long)parcels);
	return i;
}

/* No file is open: nothing is bound, but callbacks may be under way. */
void bound_stop(void)
{
	int i;

	tlbdiff_secondary_set(NULL);
	wait_var_event(&allocated, !atomic_read(&allocated));
	mmu_notifier_synchronize();
	for (i = 0; i < PSCIDS; i++)
		forget(&held[i]);
	ida_destroy(&pscids);
	free_page((unsigned long)parcels);
}
