// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a step costs with so many subscribers: the hart's own counters before
 * and after it. Nothing is hooked and nothing recorded meanwhile, for a
 * breakpoint would cost more than all that is counted.
 */
#include <linux/list.h>
#include <linux/mmu_notifier.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>

#include "tlbdiff.h"

/* More would say nothing more. */
#define MAX_SUBSCRIBERS		64

struct subscriber {
	struct mmu_notifier notifier;
	struct list_head list;
};

static LIST_HEAD(subscribers);
/* Whether a call is lost when two harts make one at once does not matter. */
static u64 calls;

/* What was read when the step began. */
static struct tlbdiff_count begun;
static bool counters_held;

/* As little as a driver could do. */
static void take_note(struct mmu_notifier *mn, struct mm_struct *mm,
		      unsigned long start, unsigned long end)
{
	WRITE_ONCE(calls, READ_ONCE(calls) + 1);
}

static void free_subscriber(struct mmu_notifier *mn)
{
	kfree(container_of(mn, struct subscriber, notifier));
	notifiers_freed();
}

static const struct mmu_notifier_ops subscriber_ops = {
	.arch_invalidate_secondary_tlbs = take_note,
	.free_notifier = free_subscriber,
};

/* @mm is the current task's, and so stays while this runs. */
int count_subscribe(struct mm_struct *mm, u32 number)
{
	struct subscriber *subscriber;
	int ret;

	if (number > MAX_SUBSCRIBERS)
		return -EINVAL;
	if (!counters_held) {
		counters_hold();
		counters_held = true;
	}
	while (number--) {
		subscriber = kzalloc(sizeof(*subscriber), GFP_KERNEL);
		if (!subscriber)
			return -ENOMEM;
		subscriber->notifier.ops = &subscriber_ops;
		ret = mmu_notifier_register(&subscriber->notifier, mm);
		if (ret) {
			kfree(subscriber);
			return ret;
		}
		notifiers_allocated();
		list_add(&subscriber->list, &subscribers);
	}
	return 0;
}

/* The open file's last deed. */
void count_unsubscribe_all(void)
{
	struct subscriber *subscriber, *next;

	if (counters_held) {
		counters_release();
		counters_held = false;
	}
	list_for_each_entry_safe(subscriber, next, &subscribers, list) {
		list_del(&subscriber->list);
		mmu_notifier_put(&subscriber->notifier);
	}
}

static void read_counters(struct tlbdiff_count *count)
{
	count->nanoseconds = ktime_get_mono_fast_ns();
	count->calls = READ_ONCE(calls);
	counters_read(&count->cycles, &count->instructions);
}

void count_begin(void)
{
	read_counters(&begun);
}

/* What has been counted since the beginning, with what counting itself costs. */
void count_end(struct tlbdiff_count *count)
{
	read_counters(count);
	count->nanoseconds -= begun.nanoseconds;
	count->calls -= begun.calls;
	count->cycles -= begun.cycles;
	count->instructions -= begun.instructions;
}
