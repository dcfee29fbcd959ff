// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who is born of an attached process attaches too, and who becomes another
 * program does so anew: in its own context, on its way to user space, where it
 * may sleep and has not run yet.
 *
 * There too it waits where the ring is nearly full: what one call into the
 * kernel can add has room, and who is followed cannot outrun the reader. And what
 * the call that is over has left of the ranges that it was to take something of,
 * is looked at there.
 */
#include <linux/atomic.h>
#include <linux/bitmap.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/task_work.h>
#include <linux/wait_bit.h>

#include "tlbdiff.h"

/* What may be on its way to user space at once. */
#define WORKS		1024

/* How long somebody waits for the trace to be read. Nobody may be reading. */
#define AWAIT_ROOM	(10 * HZ)

/* What is to be done by a task before it is in user space again. */
struct work {
	struct callback_head head;
	const struct task_struct *task;
	/* A range to look at; NULL where it is something else. */
	struct mm_struct *mm;
	unsigned long start;
	unsigned long end;
};

static struct work works[WORKS];
static DECLARE_BITMAP(taken, WORKS);
static atomic_t under_way = ATOMIC_INIT(0);

static bool following;
static bool ever;
/* Births that found no room in the table of works. */
static atomic64_t missed = ATOMIC64_INIT(0);

static struct work *__kprobes take_work(task_work_func_t func)
{
	unsigned int i;

	for (i = 0; i < WORKS; i++) {
		if (test_bit(i, taken) || test_and_set_bit(i, taken))
			continue;
		atomic_inc(&under_way);
		init_task_work(&works[i].head, func);
		works[i].mm = NULL;
		return &works[i];
	}
	return NULL;
}

static void __kprobes put_work(struct callback_head *head)
{
	struct work *work = container_of(head, struct work, head);

	WRITE_ONCE(work->task, NULL);
	clear_bit(work - works, taken);
	if (atomic_dec_and_test(&under_way))
		wake_up_var(&under_way);
}

/* Whether @task runs @func before it is in user space again, or ends. */
static bool __kprobes will_do(struct task_struct *task, task_work_func_t func)
{
	struct work *work = take_work(func);

	if (!work)
		return false;
	if (task_work_add(task, &work->head, TWA_RESUME))
		put_work(&work->head);
	return true;
}

static void attach_now(struct callback_head *work)
{
	struct mm_struct *mm = current->mm;

	/* Who ends has none any more. */
	if (mm && notifiers_follow(mm, &following))
		atomic64_inc(&missed);
	put_work(work);
}

static void wait_now(struct callback_head *work)
{
	ring_await_room(AWAIT_ROOM);
	put_work(work);
}

static void look_now(struct callback_head *head)
{
	struct work *work = container_of(head, struct work, head);
	unsigned long start = work->start, end = work->end;

	/* Who ends, or has become another program, has another, or none. */
	while (tables_running() && current->mm == work->mm && start < end) {
		ring_await_room(AWAIT_ROOM);
		start = tables_record_part(work->mm, start, end);
	}
	put_work(head);
}

/* What the current task has to look at already. */
static struct work *my_range(void)
{
	unsigned int i;

	for_each_set_bit(i, taken, WORKS) {
		if (READ_ONCE(works[i].task) == current)
			return &works[i];
	}
	return NULL;
}

/*
 * The current task is about to take something of a range. Of its own mm it looks
 * at what there is when its call is over: at all between the first and the last of
 * its ranges. Where there is no room for that, nothing is missed but this look.
 */
void follow_range(const struct mmu_notifier_range *range)
{
	struct work *work;

	if (!tables_running() || current->mm != range->mm ||
	    current->flags & (PF_KTHREAD | PF_USER_WORKER | PF_EXITING))
		return;
	work = my_range();
	if (work && work->mm == range->mm) {
		work->start = min(work->start, range->start);
		work->end = max(work->end, range->end);
		return;
	}
	/* It has become another program meanwhile. */
	if (work) {
		work->mm = range->mm;
		work->start = range->start;
		work->end = range->end;
		return;
	}
	work = take_work(look_now);
	if (!work)
		return;
	work->mm = range->mm;
	work->start = range->start;
	work->end = range->end;
	WRITE_ONCE(work->task, current);
	if (task_work_add(current, &work->head, TWA_RESUME))
		put_work(&work->head);
}

static bool __kprobes is_followed(void)
{
	return READ_ONCE(following) && current->mm && ring_has_mm(current->mm);
}

static bool on_birth(struct tlbdiff_probe *probe,
		     const struct tlbdiff_entry *entry)
{
	struct task_struct *child = (struct task_struct *)entry->args[0];

	if (child->mm && child->mm != current->mm && is_followed() &&
	    !will_do(child, attach_now))
		atomic64_inc(&missed);
	return false;
}

static bool on_exec(struct tlbdiff_probe *probe,
		    const struct tlbdiff_entry *entry)
{
	if (is_followed() && !will_do(current, attach_now))
		atomic64_inc(&missed);
	return false;
}

static struct tlbdiff_probe birth = {
	.function = "wake_up_new_task",
	.hit = on_birth,
};

/* The program is another one from here on, or there is none. */
static struct tlbdiff_probe exec = {
	.function = "begin_new_exec",
	.hit = on_exec,
};

/* From now on, until the file is closed. */
int follow_begin(void)
{
	int ret;

	if (following)
		return -EEXIST;
	atomic64_set(&missed, 0);
	ret = probe_install(&birth);
	if (ret)
		return ret;
	ret = probe_install(&exec);
	if (ret) {
		probes_remove((struct tlbdiff_probe *[]){ &birth }, 1);
		return ret;
	}
	ever = true;
	WRITE_ONCE(following, true);
	return 0;
}

/* Whoever has not attached by now will not. */
void follow_end(void)
{
	if (!following)
		return;
	WRITE_ONCE(following, false);
	probes_remove((struct tlbdiff_probe *[]){ &birth, &exec }, 2);
}

/* How many mms were not attached, or not in time. */
u64 follow_missed(void)
{
	if (!following)
		return 0;
	return atomic64_read(&missed) + probe_missed(&birth) +
	       probe_missed(&exec);
}

/*
 * The ring is nearly full: the current task, if it is followed, waits when its
 * call is over. Who has something to do there already is not asked again.
 */
void __kprobes follow_slow_down(void)
{
	if (!(current->flags & PF_KTHREAD) &&
	    !test_thread_flag(TIF_NOTIFY_RESUME) && is_followed())
		will_do(current, wait_now);
}

/* For all of that to be over, before the module goes. */
void follow_wait(void)
{
	if (!ever)
		return;
	wait_var_event(&under_way, !atomic_read(&under_way));
	/* The last of them may not have returned yet. */
	synchronize_rcu_tasks();
}
