// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which page frames the attached mms were seen to use, and when these go back to
 * whoever gives them out anew: the page allocator, or hugetlb's pool.
 *
 * Only frames that page tables were seen to refer to are recorded, each once for
 * each time that they were seen: a busy system does not flood the trace.
 *
 * Frames go back by two functions of mm/page_alloc.c, each of which takes all that
 * its callers give; what is below them (__free_pages_ok(), free_one_page()) is
 * called by them, or for memory that no page table has: at boot, for memory that is
 * added, for the tails of exact allocations.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/xarray.h>
#ifdef HAS_FOLIO_BATCH_H
#include <linux/folio_batch.h>
#else
#include <linux/pagevec.h>
#endif

#include "tlbdiff.h"

/* A page of bits, one for each frame. */
#define CHUNK_FRAMES	(PAGE_SIZE * BITS_PER_BYTE)

/* By the number of the first of their frames, in chunks. */
static DEFINE_XARRAY(chunks);

/* A chunk could not be made: frames that are given back may go unseen. */
static bool incomplete;

static unsigned long *chunk_of(unsigned long pfn, bool make)
{
	unsigned long index = pfn / CHUNK_FRAMES;
	unsigned long *chunk = xa_load(&chunks, index);

	if (chunk || !make)
		return chunk;
	/* From under a page table's lock. */
	chunk = (unsigned long *)get_zeroed_page(GFP_ATOMIC | __GFP_NOWARN);
	if (!chunk || xa_is_err(xa_store(&chunks, index, chunk, GFP_ATOMIC))) {
		free_page((unsigned long)chunk);
		incomplete = true;
		return NULL;
	}
	return chunk;
}

/* Page tables refer to @count frames from @pfn on. */
void frames_note(unsigned long pfn, unsigned long count)
{
	unsigned long *chunk, end = pfn + count;

	for (; pfn < end; pfn++) {
		chunk = chunk_of(pfn, true);
		if (chunk)
			set_bit(pfn % CHUNK_FRAMES, chunk);
	}
}

static void __kprobes record(unsigned long pfn, unsigned long end, bool pool,
			     const struct tlbdiff_entry *entry)
{
	struct tlbdiff_record rec = {
		.kind = TLBDIFF_FREED,
		.start = PFN_PHYS(pfn),
		.end = PFN_PHYS(end),
		.flags = pool ? TLBDIFF_F_POOL : 0,
	};

	if (tables_running())
		rec.chain = callers_note(entry);
	ring_add(&rec, NULL);
}

/* At @entry of what takes them. */
static void __kprobes given_back(unsigned long pfn, unsigned long count,
				 bool pool, const struct tlbdiff_entry *entry)
{
	unsigned long *chunk, end = pfn + count, first = 0;
	bool seen, run = false;

	for (; pfn < end; pfn++) {
		chunk = chunk_of(pfn, false);
		seen = chunk && test_bit(pfn % CHUNK_FRAMES, chunk);
		if (seen)
			clear_bit(pfn % CHUNK_FRAMES, chunk);
		if (seen && !run)
			first = pfn;
		else if (!seen && run)
			record(first, pfn, pool, entry);
		run = seen;
	}
	if (run)
		record(first, end, pool, entry);
}

/* Also __free_frozen_pages(), which takes the same, and more. */
static bool __kprobes on_free_unref_page(struct tlbdiff_probe *probe,
					 const struct tlbdiff_entry *entry)
{
	if (ring_tracing())
		given_back(page_to_pfn((struct page *)entry->args[0]), 1UL << entry->args[1],
			   false, entry);
	return false;
}

static bool __kprobes on_free_unref_folios(struct tlbdiff_probe *probe,
					   const struct tlbdiff_entry *entry)
{
	struct folio_batch *folios = (struct folio_batch *)entry->args[0];
	unsigned int i;

	if (!ring_tracing())
		return false;
	for (i = 0; i < folio_batch_count(folios); i++)
		given_back(folio_pfn(folios->folios[i]),
			   folio_nr_pages(folios->folios[i]), false, entry);
	return false;
}

static bool __kprobes on_free_huge_folio(struct tlbdiff_probe *probe,
					 const struct tlbdiff_entry *entry)
{
	struct folio *folio = (struct folio *)entry->args[0];

	if (ring_tracing())
		given_back(folio_pfn(folio), folio_nr_pages(folio), true, entry);
	return false;
}

/* The sources that could be asked for names are not where boards have headers. */
static struct tlbdiff_probe probes[] = {
	{ .function = "free_unref_page", .hit = on_free_unref_page },
	{ .function = "free_unref_folios", .hit = on_free_unref_folios },
#ifdef CONFIG_HUGETLB_PAGE
	{ .function = "free_huge_folio", .hit = on_free_huge_folio },
#endif
};

static void remove_first(size_t count)
{
	struct tlbdiff_probe *all[ARRAY_SIZE(probes)];
	size_t i;

	BUILD_BUG_ON(ARRAY_SIZE(probes) > PROBES_MAX);
	for (i = 0; i < count; i++)
		all[i] = &probes[i];
	probes_remove(all, count);
}

int frames_install(void)
{
	size_t i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(probes); i++) {
		ret = probe_install(&probes[i]);
		if (ret == -ENOENT && probes[i].hit == on_free_unref_page) {
			/* What it is called since 6.14. */
			probes[i].function = "__free_frozen_pages";
			ret = probe_install(&probes[i]);
		}
		if (ret) {
			pr_err("cannot hook %s: neither by a kprobe nor by the function tracer (%d)\n",
			       probes[i].function, ret);
			remove_first(i);
			return ret;
		}
	}
	return 0;
}

void frames_remove(void)
{
	remove_first(ARRAY_SIZE(probes));
}

/* How often something was given back without being seen. */
u64 frames_missed(void)
{
	u64 missed = incomplete;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(probes); i++)
		missed += probe_missed(&probes[i]);
	return missed;
}

/* No frame was seen yet. */
void frames_forget(void)
{
	unsigned long *chunk, index;

	xa_for_each(&chunks, index, chunk)
		bitmap_zero(chunk, CHUNK_FRAMES);
	incomplete = false;
}

/* Nothing is hooked any more. */
void frames_free(void)
{
	unsigned long *chunk, index;

	xa_for_each(&chunks, index, chunk)
		free_page((unsigned long)chunk);
	xa_destroy(&chunks);
}
