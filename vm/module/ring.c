// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ring of records, and the table of the attached mms, by which each
 * record's mm gets its number.
 *
 * The lock is taken from under page-table locks and from breakpoint
 * exceptions: nothing under it may sleep, flush a TLB or hit a hook.
 */
#include <linux/bitops.h>
#include <linux/hashtable.h>
#include <linux/kprobes.h>
#include <linux/random.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/siphash.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/wait.h>

#include <asm/mmu.h>

#include "tlbdiff.h"

/* Set in the number of an mm that did not attach. */
#define TLBDIFF_MM_FOREIGN	BIT_ULL(63)

static_assert(sizeof(struct tlbdiff_record) == 80);

static struct {
	raw_spinlock_t lock;
	bool tracing;
	struct tlbdiff_record *records;
	u32 capacity;
	u32 first;		/* the oldest record not yet read */
	u32 used;
	u64 seq;		/* of the next record; so, the number of all */
	u64 lost;
	u64 attached;
	siphash_key_t key;	/* for the numbers of foreign mms */
	DECLARE_HASHTABLE(mms, 6);
} ring = {
	.lock = __RAW_SPIN_LOCK_UNLOCKED(ring.lock),
};

/* Who waits for records to be read. */
static DECLARE_WAIT_QUEUE_HEAD(room);

/*
 * A kprobe's handler runs as if in an NMI, where lockdep allows trylocks only.
 * No hook can hit while this CPU has the lock, so the wait is short.
 */
static unsigned long __kprobes ring_lock(void)
{
	unsigned long flags;

	local_irq_save(flags);
	while (!raw_spin_trylock(&ring.lock))
		cpu_relax();
	return flags;
}

static void __kprobes ring_unlock(unsigned long flags)
{
	raw_spin_unlock_irqrestore(&ring.lock, flags);
}

static struct tlbdiff_mm *__kprobes ring_find_mm(struct mm_struct *mm)
{
	struct tlbdiff_mm *tmm;

	hash_for_each_possible(ring.mms, tmm, node, (unsigned long)mm) {
		if (tmm->mm == mm)
			return tmm;
	}
	return NULL;
}

static u64 __kprobes ring_mm_number(struct mm_struct *mm,
				    const struct tlbdiff_mm *tmm)
{
	if (!mm)
		return 0;
	if (tmm)
		return tmm->number;
	return siphash_1u64((unsigned long)mm, &ring.key) | TLBDIFF_MM_FOREIGN;
}

static bool __kprobes from_notifier(const struct tlbdiff_record *rec)
{
	return rec->kind >= TLBDIFF_NOTIFY && rec->kind <= TLBDIFF_RELEASE;
}

/*
 * Adds @rec, about @mm (or NULL); completes what all kinds have in common.
 * A notifier that still runs after its file was closed is not listened to.
 */
void __kprobes ring_add(struct tlbdiff_record *rec, struct mm_struct *mm)
{
	struct tlbdiff_mm *tmm;
	unsigned long flags;
	bool slow;
	u32 at;

	rec->pid = task_pid_nr(current);
	rec->tgid = task_tgid_nr(current);

	flags = ring_lock();
	if (!ring.tracing)
		goto unlock;
	tmm = mm ? ring_find_mm(mm) : NULL;
	if (!tmm && from_notifier(rec))
		goto unlock;
	if (ring.used == ring.capacity) {
		ring.lost++;
		goto unlock;
	}

	rec->mm = ring_mm_number(mm, tmm);
	if (tmm && !tmm->released)
		rec->flags |= TLBDIFF_F_ATTACHED;
	rec->hart = smp_processor_id();
	rec->seq = ring.seq++;

	at = ring.first + ring.used++;
	if (at >= ring.capacity)
		at -= ring.capacity;
	ring.records[at] = *rec;
	slow = ring.used > ring.capacity / 4 * 3;
	ring_unlock(flags);
	if (slow)
		follow_slow_down();
	return;
unlock:
	ring_unlock(flags);
}

bool __kprobes ring_tracing(void)
{
	return READ_ONCE(ring.tracing);
}

/* Fills in the state of @mm that a flush depends on. */
void __kprobes ring_fill_mm(struct tlbdiff_record *rec, struct mm_struct *mm)
{
	/* Harts 0 to 63. */
	rec->cpumask = cpumask_bits(mm_cpumask(mm))[0];
	rec->asid = cntx2asid(atomic_long_read(&mm->context.id));
}

/* Nobody is notified about @mm from now on. */
void ring_mm_released(struct mm_struct *mm)
{
	struct tlbdiff_mm *tmm;
	unsigned long flags;

	flags = ring_lock();
	tmm = ring_find_mm(mm);
	if (tmm) {
		WRITE_ONCE(tmm->released, true);
		ring.attached--;
	}
	ring_unlock(flags);
}

/* A new file is open, and nothing is being traced. */
void ring_reset(void)
{
	unsigned long flags;

	get_random_bytes(&ring.key, sizeof(ring.key));
	flags = ring_lock();
	ring.first = 0;
	ring.used = 0;
	ring.seq = 0;
	ring.lost = 0;
	ring.attached = 0;
	ring_unlock(flags);
}

/* Returns the buffer that was in place before, or NULL. */
struct tlbdiff_record *ring_replace(struct tlbdiff_record *records,
				    u32 capacity)
{
	struct tlbdiff_record *before;
	unsigned long flags;

	flags = ring_lock();
	before = ring.records;
	ring.records = records;
	ring.capacity = capacity;
	ring_unlock(flags);
	return before;
}

void ring_trace(bool on)
{
	unsigned long flags;

	flags = ring_lock();
	WRITE_ONCE(ring.tracing, on);
	ring_unlock(flags);
}

void ring_status(struct tlbdiff_status *status, struct mm_struct *mm)
{
	unsigned long flags;

	flags = ring_lock();
	status->recorded = ring.seq;
	status->lost = ring.lost;
	status->mm = ring_mm_number(mm, ring_find_mm(mm));
	status->attached = ring.attached;
	ring_unlock(flags);
}

/*
 * How many of the oldest records lie in one piece, and where. They stay as
 * they are until ring_consume(), so that they can be read without the lock.
 */
u32 ring_peek(const struct tlbdiff_record **records)
{
	unsigned long flags;
	u32 count;

	flags = ring_lock();
	*records = &ring.records[ring.first];
	count = min(ring.used, ring.capacity - ring.first);
	ring_unlock(flags);
	return count;
}

void ring_consume(u32 count)
{
	unsigned long flags;

	flags = ring_lock();
	ring.first += count;
	if (ring.first == ring.capacity)
		ring.first = 0;
	ring.used -= count;
	ring_unlock(flags);
	wake_up_all(&room);
}

static bool half_empty(void)
{
	return READ_ONCE(ring.used) <= READ_ONCE(ring.capacity) / 2;
}

/*
 * Between two steps: waits until half of the ring is free, for so many ticks at
 * the most. What is read late on a busy machine is not lost.
 */
void ring_await_room(long ticks)
{
	if (!half_empty())
		wait_event_interruptible_timeout(room, half_empty(), ticks);
}

u32 ring_capacity(void)
{
	return READ_ONCE(ring.capacity);
}

bool __kprobes ring_has_mm(struct mm_struct *mm)
{
	unsigned long flags;
	bool has;

	flags = ring_lock();
	has = ring_find_mm(mm);
	ring_unlock(flags);
	return has;
}

void ring_add_mm(struct tlbdiff_mm *tmm)
{
	unsigned long flags;

	flags = ring_lock();
	hash_add(ring.mms, &tmm->node, (unsigned long)tmm->mm);
	ring.attached++;
	ring_unlock(flags);
}

/*
 * Of those that are not released. Without the lock: where mms are followed, and
 * go by themselves, nothing is watched.
 */
void ring_record_tables(void)
{
	struct tlbdiff_mm *tmm;
	int bucket;

	hash_for_each(ring.mms, bucket, tmm, node) {
		if (!READ_ONCE(tmm->released))
			tables_record_mm(tmm->mm);
	}
}

/*
 * A reference to the mm of the lowest number from @number on, and that number;
 * NULL and 0 where there is none. It stays in the table until it is released.
 */
struct mm_struct *ring_get_mm(u64 *number)
{
	struct tlbdiff_mm *tmm, *best = NULL;
	struct mm_struct *mm = NULL;
	unsigned long flags;
	int bucket;

	flags = ring_lock();
	hash_for_each(ring.mms, bucket, tmm, node) {
		if (tmm->number >= *number && !tmm->released &&
		    (!best || tmm->number < best->number) &&
		    atomic_read(&tmm->mm->mm_users))
			best = tmm;
	}
	*number = best ? best->number : 0;
	if (best && mmget_not_zero(best->mm))
		mm = best->mm;
	ring_unlock(flags);
	return mm;
}

static struct tlbdiff_mm *any_mm(void)
{
	struct tlbdiff_mm *tmm;
	int bucket;

	hash_for_each(ring.mms, bucket, tmm, node)
		return tmm;
	return NULL;
}

/* Takes @mm, or any one, out of the table; NULL when there is none. */
struct tlbdiff_mm *ring_remove_mm(struct mm_struct *mm)
{
	struct tlbdiff_mm *tmm;
	unsigned long flags;

	flags = ring_lock();
	tmm = mm ? ring_find_mm(mm) : any_mm();
	if (tmm) {
		hash_del(&tmm->node);
		if (!tmm->released)
			ring.attached--;
	}
	ring_unlock(flags);
	return tmm;
}
