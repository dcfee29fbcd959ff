// SPDX-License-Identifier: GPL-2.0-only
/*
 * Keeps out of the steps what the kernel does by a timer and user space cannot
 * switch off.
 *
 * flush_memcg_stats_dwork() adds up the statistics of all cgroups every two
 * seconds, and reclaim decides by the last sums: with one falling into a step,
 * the step may reclaim other pages. It is put off until the step has ended,
 * and the traced program has the sums made between its steps: no file does that
 * on all kernels.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/sched/signal.h>
#include <linux/workqueue.h>

#include "tlbdiff.h"

#ifdef HAS_SYSTEM_DFL_WQ
#define stats_wq	system_dfl_wq
#else
#define stats_wq	system_unbound_wq
#endif

/* How long the timer may take to go off for the first time. */
#define FIRST_FLUSH	(5 * HZ)

/* DECLARE_DEFERRABLE_WORK() of mm/memcontrol.c */
#define STATS_FLUSH	"stats_flush_dwork"

static bool step_under_way;
static struct delayed_work *stats_flush;	/* once it is known */

static bool __kprobes on_flush_memcg_stats(struct tlbdiff_probe *probe,
					   const struct tlbdiff_entry *entry)
{
	struct work_struct *work = (struct work_struct *)entry->args[0];

	WRITE_ONCE(stats_flush, to_delayed_work(work));
	if (!READ_ONCE(step_under_way))
		return false;

	return true;
}

/*
 * Runs instead, and tries again with the next tick. Not done by the probe: that
 * is an exception, in which no lock may be taken.
 */
static void put_off_memcg_stats(struct work_struct *work)
{
	queue_delayed_work(stats_wq, to_delayed_work(work), 1);
}

static struct tlbdiff_probe flush_memcg_stats = {
	.function = "flush_memcg_stats_dwork",
	.hit = on_flush_memcg_stats,
	.instead = put_off_memcg_stats,
};

/*
 * By the address that a refused kprobe has found: the work is no function. A
 * kernel without CONFIG_KALLSYMS_ALL does not find it, and it is known only
 * once the timer has gone off.
 */
static struct delayed_work *find_stats_flush(void)
{
	struct kprobe probe = { .symbol_name = STATS_FLUSH };
	struct delayed_work *work;

	if (!register_kprobe(&probe)) {
		unregister_kprobe(&probe);
		return NULL;
	}
	work = (struct delayed_work *)probe.addr;
	if (!work || !IS_ALIGNED((unsigned long)work, sizeof(long)))
		return NULL;
	if ((void *)work->work.func != (void *)flush_memcg_stats.kprobe.addr)
		return NULL;
	return work;
}

/* A kernel without the function has nothing to put off. */
void still_install(void)
{
	int ret = probe_install(&flush_memcg_stats);

	if (ret)
		pr_info("cannot hook %s (%d): its timer goes on during steps\n",
			flush_memcg_stats.function, ret);
	else if (!READ_ONCE(stats_flush))
		WRITE_ONCE(stats_flush, find_stats_flush());
}

void still_remove(void)
{
	struct tlbdiff_probe *probe = &flush_memcg_stats;
	struct delayed_work *work;

	probes_remove(&probe, 1);
	/* A worker may still be in the function of this module. */
	work = READ_ONCE(stats_flush);
	if (work)
		flush_delayed_work(work);
}

void still_step(bool under_way)
{
	WRITE_ONCE(step_under_way, under_way);
}

/* Has the sums made now. Sleeps. */
int still_flush_stats(void)
{
	struct delayed_work *work;
	long ticks = FIRST_FLUSH;

	if (flush_memcg_stats.method == PROBE_NONE)
		return -EOPNOTSUPP;
	while (!(work = READ_ONCE(stats_flush))) {
		if (ticks-- <= 0)
			return -ETIMEDOUT;
		schedule_timeout_interruptible(1);
		if (signal_pending(current))
			return -EINTR;
	}
	mod_delayed_work(stats_wq, work, 0);
	flush_delayed_work(work);
	return 0;
}
