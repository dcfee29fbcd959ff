// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two MMU notifiers per attached mm. Their callbacks may run under spinlocks
 * and on any task: who unmaps a page need not be of that mm.
 */
#include <linux/atomic.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/wait_bit.h>

#include "tlbdiff.h"

static atomic_t allocated = ATOMIC_INIT(0);
static u64 last_number;
/* Over who attaches and detaches. */
static DEFINE_MUTEX(attaching);

static void notify_secondary_tlbs(struct mmu_notifier *mn, struct mm_struct *mm,
				  unsigned long start, unsigned long end)
{
	struct tlbdiff_record rec = {
		.kind = TLBDIFF_NOTIFY,
		.start = start,
		.end = end,
	};

	ring_fill_mm(&rec, mm);
	ring_add(&rec, mm);
}

static void notify_range(const struct mmu_notifier_range *range, u16 kind,
			 u64 chain)
{
	struct tlbdiff_record rec = {
		.kind = kind,
		.start = range->start,
		.end = range->end,
		.arg = range->event,
		.chain = chain,
	};

	ring_fill_mm(&rec, range->mm);
	ring_add(&rec, range->mm);
}

static int notify_range_start(struct mmu_notifier *mn,
			      const struct mmu_notifier_range *range)
{
	struct tlbdiff_entry here = {
		.ra = (unsigned long)__builtin_return_address(0),
		.sp = (unsigned long)__builtin_frame_address(0),
	};

	notify_range(range, TLBDIFF_RANGE_START,
		     tables_running() ? callers_note(&here) : 0);
	tables_record_before(range->mm, range->start, range->end);
	follow_range(range);
	return 0;
}

static void notify_range_end(struct mmu_notifier *mn,
			     const struct mmu_notifier_range *range)
{
	notify_range(range, TLBDIFF_RANGE_END, 0);
}

static void put_notifiers(struct tlbdiff_mm *tmm)
{
	if (!tmm->followed)
		secondary_unbind(tmm->mm);
	mmu_notifier_put(&tmm->ranges);
	mmu_notifier_put(&tmm->secondary_tlbs);
}

static void notify_release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	struct tlbdiff_record rec = { .kind = TLBDIFF_RELEASE };
	struct tlbdiff_mm *tmm = container_of(mn, struct tlbdiff_mm, ranges);

	ring_add(&rec, mm);
	ring_mm_released(mm);
	/* Whoever takes it out of the table puts it. */
	if (tmm->followed && ring_remove_mm(mm))
		put_notifiers(tmm);
}

/* Whatever the core may still call must be gone before the module is. */
void notifiers_allocated(void)
{
	atomic_inc(&allocated);
}

void notifiers_freed(void)
{
	if (atomic_dec_and_test(&allocated))
		wake_up_var(&allocated);
}

static void put_mm(struct tlbdiff_mm *tmm)
{
	if (!refcount_dec_and_test(&tmm->notifiers))
		return;
	kfree(tmm);
	notifiers_freed();
}

static void free_secondary_tlbs(struct mmu_notifier *mn)
{
	put_mm(container_of(mn, struct tlbdiff_mm, secondary_tlbs));
}

static void free_ranges(struct mmu_notifier *mn)
{
	put_mm(container_of(mn, struct tlbdiff_mm, ranges));
}

static const struct mmu_notifier_ops secondary_tlbs_ops = {
	.arch_invalidate_secondary_tlbs = notify_secondary_tlbs,
	.free_notifier = free_secondary_tlbs,
};

static const struct mmu_notifier_ops ranges_ops = {
	.release = notify_release,
	.invalidate_range_start = notify_range_start,
	.invalidate_range_end = notify_range_end,
	.free_notifier = free_ranges,
};

/* What the mm belongs to, into the ring. */
static void note_task(struct mm_struct *mm)
{
	struct tlbdiff_record rec = { .kind = TLBDIFF_TASK };
	char comm[TASK_COMM_LEN];

	static_assert(sizeof(comm) == sizeof(rec.start) + sizeof(rec.end));
	get_task_comm(comm, current);
	memcpy(&rec.start, comm, sizeof(rec.start));
	memcpy(&rec.end, comm + sizeof(rec.start), sizeof(rec.end));
	ring_add(&rec, mm);
}

/* @mm is the current task's, and so stays while this runs. */
static int attach(struct mm_struct *mm, bool followed)
{
	struct tlbdiff_mm *tmm;
	int ret;

	if (ring_has_mm(mm))
		return -EEXIST;
	tmm = kzalloc(sizeof(*tmm), GFP_KERNEL);
	if (!tmm)
		return -ENOMEM;
	tmm->mm = mm;
	tmm->followed = followed;
	tmm->secondary_tlbs.ops = &secondary_tlbs_ops;
	tmm->ranges.ops = &ranges_ops;
	refcount_set(&tmm->notifiers, 2);

	ret = mmu_notifier_register(&tmm->secondary_tlbs, mm);
	if (ret)
		goto free;
	ret = mmu_notifier_register(&tmm->ranges, mm);
	if (ret)
		goto unregister_secondary_tlbs;

	if (!followed)
		ret = secondary_bind(mm, last_number + 1);
	if (ret)
		goto unregister_ranges;

	notifiers_allocated();
	tmm->number = ++last_number;
	ring_add_mm(tmm);
	return 0;

unregister_ranges:
	mmu_notifier_unregister(&tmm->ranges, mm);
unregister_secondary_tlbs:
	mmu_notifier_unregister(&tmm->secondary_tlbs, mm);
free:
	kfree(tmm);
	return ret;
}

int notifiers_attach(struct mm_struct *mm)
{
	int ret;

	mutex_lock(&attaching);
	ret = attach(mm, false);
	mutex_unlock(&attaching);
	return ret;
}

/* Of a process that is followed, as long as that is @wanted. */
int notifiers_follow(struct mm_struct *mm, const bool *wanted)
{
	int ret = 0;

	mutex_lock(&attaching);
	if (READ_ONCE(*wanted))
		ret = attach(mm, true);
	mutex_unlock(&attaching);
	if (!ret)
		note_task(mm);
	return ret == -EEXIST ? 0 : ret;
}

/*
 * Does not wait for callbacks under way: a grace period takes milliseconds.
 * They find the table empty and record nothing; what they stand on is freed
 * after them.
 */
void notifiers_detach_all(void)
{
	struct tlbdiff_mm *tmm;

	mutex_lock(&attaching);
	while ((tmm = ring_remove_mm(NULL)))
		put_notifiers(tmm);
	last_number = 0;
	mutex_unlock(&attaching);
}

/* @mm only. */
int notifiers_detach(struct mm_struct *mm)
{
	struct tlbdiff_mm *tmm = ring_remove_mm(mm);

	if (!tmm)
		return -ENOENT;
	put_notifiers(tmm);
	return 0;
}

/* For all of that to be over, before the module goes. */
void notifiers_wait(void)
{
	wait_var_event(&allocated, !atomic_read(&allocated));
	/* The last callback may not have returned yet. */
	mmu_notifier_synchronize();
}
