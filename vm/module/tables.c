// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the page tables of the attached mms hold, into the ring: entry by entry, as
 * an MMU reads them. No walker of the kernel is exported to modules.
 *
 * The mm's lock is held as by any fault, and of each last table its own lock: what
 * is recorded was there at one time, table by table.
 */
#include <linux/export.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/mmap_lock.h>
#include <linux/pgtable.h>
#include <linux/rcupdate.h>
#include <linux/sched/mm.h>
#include <linux/spinlock.h>

#include "tlbdiff.h"

#define ENTRIES		512
#define ENTRY_BITS	9
#define LEVELS		5

/* What entries of a run have in common: all but the frame, and what is software's. */
#define SAME_BITS	(~(_PAGE_PFN_MASK | _PAGE_SOFT | _PAGE_ACCESSED))

/* Leaves of one size and one kind that follow one another. */
struct run {
	unsigned long start;
	unsigned long end;	/* 0 where there is none */
	unsigned long entry;	/* the first */
	unsigned long size;	/* of a leaf */
	unsigned long next;	/* the frame that would go on */
	bool same;		/* all have the first one's frame */
};

struct walk {
	struct mm_struct *mm;
	unsigned long start;
	unsigned long end;
	bool before;		/* in a step */
	u32 room;		/* records that it may still make, about */
	bool stopped;		/* it made them all ... */
	unsigned long reached;	/* ... and came this far */
	/* The last recorded table, by level: where it ends, and its entry. */
	struct {
		unsigned long end;
		unsigned long entry;
	} told[LEVELS];
	struct run run;
};

/* Of all attached mms. Empty: nothing is recorded. */
static unsigned long watched_start, watched_end;

/* In a step as well, before anything is taken. */
static bool watched_before;

/* Others change what is looked at. */
static bool watched_running;

static unsigned long frame_of(unsigned long entry)
{
	return (entry & _PAGE_PFN_MASK) >> _PAGE_PFN_SHIFT;
}

static void add_record(struct walk *walk, struct tlbdiff_record *rec)
{
	ring_add(rec, walk->mm);
	if (walk->room)
		walk->room--;
}

static void end_run(struct walk *walk)
{
	struct run *run = &walk->run;
	struct tlbdiff_record rec = {
		.kind = TLBDIFF_LEAVES,
		.start = run->start,
		.end = run->end,
		.arg = run->entry,
		.cpumask = run->size,
		.flags = run->same ? TLBDIFF_F_SAME_FRAME : 0,
	};

	if (walk->before)
		rec.flags |= TLBDIFF_F_BEFORE;

	if (run->end)
		add_record(walk, &rec);
	run->end = 0;
}

static bool goes_on(struct run *run, unsigned long addr, unsigned long size,
		    unsigned long entry, unsigned long frame)
{
	bool first = run->end - run->start == run->size;

	if (!run->end || run->end != addr || run->size != size ||
	    (run->entry ^ entry) & SAME_BITS)
		return false;
	if (first && frame == frame_of(run->entry))
		run->same = true;
	if (run->same)
		return frame == frame_of(run->entry);
	return frame == run->next;
}

static void add_leaf(struct walk *walk, unsigned long addr, unsigned long size,
		     unsigned long entry)
{
	unsigned long frames, frame = frame_of(entry);
	struct run *run = &walk->run;

	/* One translation in several entries, which say so by their frame. */
	if (entry & _PAGE_NAPOT) {
		/* Those are hugetlb's, and have another lock. */
		if (watched_running)
			return;
		size <<= __ffs(frame) + 1;
		if (addr & (size - 1))
			return;
		frame &= frame - 1;
		entry = (entry & ~_PAGE_PFN_MASK) | frame << _PAGE_PFN_SHIFT;
	}
	frames = size >> PAGE_SHIFT;
	frames_note(frame, frames);
	if (!walk->before)
		secondary_leaf(walk->mm, addr, size, entry);

	if (!goes_on(run, addr, size, entry, frame)) {
		end_run(walk);
		run->start = addr;
		run->entry = entry & ~(_PAGE_SOFT | _PAGE_ACCESSED);
		run->size = size;
		run->same = false;
	}
	run->end = addr + size;
	run->next = frame + frames;
}

/* A table that an entry of @level refers to: once for all areas that it translates. */
static void add_table(struct walk *walk, unsigned int level, unsigned long addr,
		      unsigned long size, unsigned long entry)
{
	struct tlbdiff_record rec = {
		.kind = TLBDIFF_TABLE,
		.start = addr,
		.end = addr + size,
		.arg = entry,
		.flags = walk->before ? TLBDIFF_F_BEFORE : 0,
	};

	if (walk->told[level].end == rec.end &&
	    walk->told[level].entry == entry)
		return;
	walk->told[level].end = rec.end;
	walk->told[level].entry = entry;
	frames_note(frame_of(entry), 1);
	add_record(walk, &rec);
}

static const unsigned long *table_of(unsigned long entry)
{
	return pfn_to_virt(frame_of(entry));
}

/* The first entry to look at, of a table whose entries translate 1 << @shift bytes. */
static unsigned int first_entry(const struct walk *walk, unsigned long base,
				unsigned int shift)
{
	return walk->start > base ? (walk->start - base) >> shift : 0;
}

/* The last table: its pages come and go under its own lock. */
static void walk_last(struct walk *walk, const unsigned long *above,
		      unsigned long entry, unsigned long base)
{
	const unsigned long *table = table_of(entry);
	pmd_t pmd = __pmd(entry);
	unsigned long addr, pte;
	spinlock_t *lock;	/* of the table */
	unsigned int i;

	/* It may go under the mm's lock too; then it is freed by RCU. */
	rcu_read_lock();
	lock = pte_lockptr(walk->mm, &pmd);
	spin_lock(lock);
	if (READ_ONCE(*above) == entry) {
		add_table(walk, 1, base, ENTRIES * PAGE_SIZE, entry);
		for (i = first_entry(walk, base, PAGE_SHIFT); i < ENTRIES; i++) {
			addr = base + i * PAGE_SIZE;
			if (addr >= walk->end)
				break;
			pte = READ_ONCE(table[i]);
			if (pte & _PAGE_PRESENT)
				add_leaf(walk, addr, PAGE_SIZE, pte);
		}
	}
	/*
	 * Before what the lock keeps from happening, and is recorded then: be
	 * it that others, as kswapd, are still at work when a step has ended.
	 */
	end_run(walk);
	spin_unlock(lock);
	rcu_read_unlock();
}

/* A leaf above the last tables. */
static void walk_leaf(struct walk *walk, const unsigned long *above,
		      unsigned int level, unsigned long addr, unsigned long size)
{
	unsigned long entry = READ_ONCE(*above);
	spinlock_t *lock;	/* of the table above */

	if (!walk->before) {
		add_leaf(walk, addr, size, entry);
		return;
	}
	/* Those of larger ones are hugetlb's own. */
	if (level > 1)
		return;
	lock = pmd_lockptr(walk->mm, (pmd_t *)above);
	spin_lock(lock);
	if (READ_ONCE(*above) == entry) {
		add_leaf(walk, addr, size, entry);
		end_run(walk);
	}
	spin_unlock(lock);
}

/* @level of 0 would be the last. */
static void walk_table(struct walk *walk, const unsigned long *table,
		       unsigned int level, unsigned long base)
{
	unsigned int shift = PAGE_SHIFT + ENTRY_BITS * level;
	unsigned long addr, entry, size = 1UL << shift;
	unsigned int i;

	for (i = first_entry(walk, base, shift); i < ENTRIES; i++) {
		addr = base + ((unsigned long)i << shift);
		if (addr >= walk->end || walk->stopped)
			break;
		if (!walk->room) {
			walk->reached = max(addr, walk->start);
			walk->stopped = true;
			break;
		}
		entry = READ_ONCE(table[i]);
		if (!(entry & _PAGE_PRESENT))
			continue;
		if (entry & _PAGE_LEAF) {
			walk_leaf(walk, &table[i], level, addr, size);
			continue;
		}
		if (level == 1) {
			walk_last(walk, &table[i], entry, addr);
		} else {
			add_table(walk, level, addr, size, entry);
			walk_table(walk, table_of(entry), level - 1, addr);
		}
	}
}

static void add_bound(const struct walk *walk, bool end, u32 flags)
{
	struct tlbdiff_record rec = {
		.kind = TLBDIFF_TABLES,
		.start = walk->start,
		.end = walk->stopped ? walk->reached : walk->end,
		.arg = end,
		.flags = flags,
	};

	ring_add(&rec, walk->mm);
}

static void walk_all(struct walk *walk)
{
	unsigned int levels = pgtable_l5_enabled ? LEVELS :
			      pgtable_l4_enabled ? 4 : 3;

	walk_table(walk, (const unsigned long *)walk->mm->pgd, levels - 1, 0);
	end_run(walk);
}

/* May sleep. */
void tables_record_mm(struct mm_struct *mm)
{
	struct walk walk = {
		.mm = mm,
		.start = watched_start,
		.end = watched_end,
		.room = U32_MAX,
	};

	/* It is on its way out: secondary MMUs have dropped all of it. */
	if (!mmget_not_zero(mm))
		return;
	mmap_read_lock(mm);
	add_bound(&walk, false, 0);
	walk_all(&walk);
	add_bound(&walk, true, 0);
	mmap_read_unlock(mm);
	secondary_step_ended(mm);
	mmput(mm);
}

/* Nobody changes the tables meanwhile, or what is found may be over. May sleep. */
unsigned long tlbdiff_tables_find(struct mm_struct *mm, unsigned long addr,
				  unsigned long *size)
{
	unsigned int level = pgtable_l5_enabled ? 5 : pgtable_l4_enabled ? 4 : 3;
	const unsigned long *table = (const unsigned long *)mm->pgd;
	unsigned long entry = 0;
	unsigned int shift;

	if (!mmget_not_zero(mm))
		return 0;
	mmap_read_lock(mm);
	while (level--) {
		shift = PAGE_SHIFT + ENTRY_BITS * level;
		entry = READ_ONCE(table[addr >> shift & (ENTRIES - 1)]);
		*size = 1UL << shift;
		if (!(entry & _PAGE_PRESENT) || entry & _PAGE_LEAF)
			break;
		table = table_of(entry);
	}
	mmap_read_unlock(mm);
	/* Whoever ends it tells notifiers, and those may wait for the caller. */
	mmput_async(mm);
	if (!(entry & _PAGE_PRESENT) || !(entry & _PAGE_LEAF))
		return 0;
	return entry;
}
EXPORT_SYMBOL_GPL(tlbdiff_tables_find);

/* The current task has it for writing. */
static bool locked_by_current(struct mm_struct *mm)
{
#ifdef CONFIG_PREEMPT_RT
	return false;
#else
	/* As of kernel/locking/rwsem.c: bit 0 for readers, bit 1 for those who wait. */
	unsigned long owner = atomic_long_read(&mm->mmap_lock.owner);

	return (owner & ~2UL) == (unsigned long)current;
#endif
}

/* In a step, what is watched of a range. */
static struct walk within(struct mm_struct *mm, unsigned long start,
			  unsigned long end, u32 room)
{
	return (struct walk) {
		.mm = mm,
		.start = max(start, watched_start),
		.end = min(end, watched_end),
		.before = true,
		.room = room,
	};
}

/*
 * Something of a range of @mm is about to be taken: what a device may have until
 * then. Tables stay under the mm's lock, which the caller may have; where another
 * has it nothing is recorded. Does not wait for it, and holds no more than a fault.
 */
void tables_record_before(struct mm_struct *mm, unsigned long start,
			  unsigned long end)
{
	struct walk walk = within(mm, start, end, ring_capacity() / 4);
	bool locked;

	if (!watched_before || walk.start >= walk.end || !ring_tracing())
		return;
	locked = mmap_read_trylock(mm);
	if (!locked && !locked_by_current(mm))
		return;
	walk_all(&walk);
	if (locked)
		mmap_read_unlock(mm);
}

/* Whether programs run while it is recorded what page tables hold. */
bool __kprobes tables_running(void)
{
	return READ_ONCE(watched_running) && ring_tracing();
}

/* Area by area: where there is none, nothing is mapped. */
static void walk_areas(struct walk *walk)
{
	VMA_ITERATOR(vmi, walk->mm, walk->start);
	unsigned long end = walk->end;
	struct vm_area_struct *vma;

	for_each_vma_range(vmi, vma, end) {
		walk->start = max(walk->start, vma->vm_start);
		walk->end = min(end, vma->vm_end);
		walk_all(walk);
		if (walk->stopped)
			break;
	}
	walk->end = end;
}

/*
 * What a part of @mm holds, beginning at @start, while its program runs: each
 * table under its lock. Returns where that part ends. May sleep.
 *
 * munmap() takes its areas out, and goes on as a reader: until it has told so by
 * its gather, what it is about to take would seem to be gone without a word. Who
 * has had the lock for writing has seen the end of that.
 *
 * Who has taken something by then has notified of it as well, but for whom the end
 * says FLUSHING, and whose range (invalidate_range_start) has not ended: all else
 * that takes something notifies before it lets go of the table's lock, or has the
 * mm's lock for writing (fork, mremap).
 */
unsigned long tables_record_part(struct mm_struct *mm, unsigned long start,
				 unsigned long end)
{
	struct walk walk = within(mm, start, end, ring_capacity() / 8);
	u32 flags = TLBDIFF_F_RUNNING;

	if (!tables_running() || walk.start >= walk.end)
		return end;
	if (mmap_write_lock_killable(mm))
		return end;
	mmap_write_downgrade(mm);
	add_bound(&walk, false, flags);
	walk_areas(&walk);
	walk.start = start;
	if (mm_tlb_flush_pending(mm))
		flags |= TLBDIFF_F_FLUSHING;
	add_bound(&walk, true, flags);
	mmap_read_unlock(mm);
	return walk.stopped ? walk.reached : end;
}

/* From now on, what is in this range is recorded; @flags are TLBDIFF_WATCH_*. */
void tables_watch(unsigned long start, unsigned long end, u64 flags)
{
	watched_start = start;
	watched_end = end;
	watched_before = flags & TLBDIFF_WATCH_EAGER;
	WRITE_ONCE(watched_running, flags & TLBDIFF_WATCH_RUNNING);
	frames_forget();
}

/* A step has ended. */
void tables_record(void)
{
	if (watched_start < watched_end)
		ring_record_tables();
}
