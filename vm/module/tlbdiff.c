// SPDX-License-Identifier: GPL-2.0-only
/*
 * tlbdiff: tells what arch/riscv/mm/tlbflush.c was asked to flush and what
 * secondary MMUs were told about it.
 *
 * Three sources feed one ring of fixed-size records in one global order:
 * a hook at the entry of each function of tlbflush.c (and of the SBI remote
 * fence it ends in), two MMU notifiers per attached process, and the marks
 * that the traced program sets between its steps. The records are read from
 * /dev/tlbdiff; tlbdiff_uapi.h says how and what they mean.
 *
 * How to read a trace:
 *
 * - The functions of tlbflush.c call one another. An entry is recorded
 *   wherever the compiler left a call or a tail call and is not where it
 *   inlined: arch_flush_tlb_batched_pending() is flush_tlb_mm() by another
 *   name and may be followed by an entry of flush_tlb_mm() or not.
 * - The local sfence.vma is inline assembly and out of any hook's sight.
 * - An entry is recorded for every mm of the machine, a notification for
 *   attached ones only (TLBDIFF_F_ATTACHED).
 * - After TLBDIFF_RELEASE nobody is told about that mm any more: the core
 *   drops all notifiers before it unmaps the last pages.
 *
 * Everything that a trace needs hangs on the open file. The ring's lock is
 * taken from under page-table locks and from breakpoint exceptions, so that
 * nothing under it may sleep or flush a TLB.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitops.h>
#include <linux/compat.h>
#include <linux/cpumask.h>
#include <linux/fs.h>
#include <linux/hashtable.h>
#include <linux/hugetlb.h>
#include <linux/kprobes.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/random.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/siphash.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <linux/wait_bit.h>

#include <asm/mmu.h>
#include <asm/tlbbatch.h>
#include <asm/tlbflush.h>

#include "tlbdiff_uapi.h"

#ifndef CONFIG_MMU_NOTIFIER
#error "needs MMU_NOTIFIER, which something must select: KVM does"
#endif
#ifndef CONFIG_KPROBES
#error "needs KPROBES"
#endif

#define TLBDIFF_DEFAULT_RECORDS	BIT(16)
#define TLBDIFF_MAX_RECORDS	BIT(20)

/* Set in the number of an mm that did not attach. */
#define TLBDIFF_MM_FOREIGN	BIT_ULL(63)

static_assert(sizeof(struct tlbdiff_record) == 80);

/* An mm that attached. Stays, with its mm_struct, until the file is closed. */
struct tlbdiff_mm {
	struct hlist_node node;
	struct mm_struct *mm;
	u64 number;
	bool released;
	/* One ops with both kinds of callback is refused: so subscribe two. */
	struct mmu_notifier secondary_tlbs;
	struct mmu_notifier ranges;
	refcount_t notifiers;	/* of the two, not yet freed */
};

/* What a hook or a notifier can be called with at any time. */
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

/* What only the open file's system calls touch. */
static struct {
	struct mutex lock;	/* over all system calls but open and close */
	bool greeted;
	u64 last_number;	/* given to an attached mm */
	u64 missed_before;	/* hooks missed before the file was opened */
} session = {
	.lock = __MUTEX_INITIALIZER(session.lock),
};

static unsigned long device_busy;

static atomic_t mms_allocated = ATOMIC_INIT(0);

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
static void __kprobes ring_add(struct tlbdiff_record *rec, struct mm_struct *mm)
{
	struct tlbdiff_mm *tmm;
	unsigned long flags;
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
unlock:
	ring_unlock(flags);
}

static bool __kprobes ring_tracing(void)
{
	return READ_ONCE(ring.tracing);
}

/* Harts 0 to 63 of @mask. */
static u64 __kprobes first_harts(const struct cpumask *mask)
{
	return cpumask_bits(mask)[0];
}

/* Fills in the state of @mm that a flush depends on. */
static void __kprobes fill_mm(struct tlbdiff_record *rec, struct mm_struct *mm)
{
	rec->cpumask = first_harts(mm_cpumask(mm));
	rec->asid = cntx2asid(atomic_long_read(&mm->context.id));
}

/*
 * The hooks: for each function, how its arguments become a record. Each of
 * these returns the mm that the call is about, or NULL.
 */

static unsigned long __kprobes arg(struct pt_regs *regs, unsigned int n)
{
	return regs_get_kernel_argument(regs, n);
}

static struct mm_struct *__kprobes
on_flush_tlb_all(struct tlbdiff_record *rec, struct pt_regs *regs)
{
	rec->cpumask = first_harts(cpu_online_mask);
	return NULL;
}

/* Serves arch_flush_tlb_batched_pending() too. */
static struct mm_struct *__kprobes
on_flush_tlb_mm(struct tlbdiff_record *rec, struct pt_regs *regs)
{
	struct mm_struct *mm = (struct mm_struct *)arg(regs, 0);

	fill_mm(rec, mm);
	return mm;
}

static struct mm_struct *__kprobes
on_flush_tlb_mm_range(struct tlbdiff_record *rec, struct pt_regs *regs)
{
	struct mm_struct *mm = (struct mm_struct *)arg(regs, 0);

	rec->start = arg(regs, 1);
	rec->end = arg(regs, 2);
	rec->arg = (unsigned int)arg(regs, 3);
	fill_mm(rec, mm);
	return mm;
}

static struct mm_struct *__kprobes
on_flush_tlb_page(struct tlbdiff_record *rec, struct pt_regs *regs)
{
	struct vm_area_struct *vma = (struct vm_area_struct *)arg(regs, 0);

	rec->start = arg(regs, 1);
	rec->end = rec->start + PAGE_SIZE;
	fill_mm(rec, vma->vm_mm);
	return vma->vm_mm;
}

/* Serves flush_pmd_tlb_range() and flush_pud_tlb_range() too. */
static struct mm_struct *__kprobes
on_flush_tlb_range(struct tlbdiff_record *rec, struct pt_regs *regs)
{
	struct vm_area_struct *vma = (struct vm_area_struct *)arg(regs, 0);

	rec->start = arg(regs, 1);
	rec->end = arg(regs, 2);
	if (is_vm_hugetlb_page(vma)) {
		rec->arg = huge_page_size(hstate_vma(vma));
		rec->flags |= TLBDIFF_F_HUGETLB;
	}
	fill_mm(rec, vma->vm_mm);
	return vma->vm_mm;
}

static struct mm_struct *__kprobes
on_flush_tlb_kernel_range(struct tlbdiff_record *rec, struct pt_regs *regs)
{
	rec->start = arg(regs, 0);
	rec->end = arg(regs, 1);
	rec->cpumask = first_harts(cpu_online_mask);
	return NULL;
}

/* What arch_tlbbatch_add_pending() is where it takes a page, not a range. */
#define ADD_PENDING_OF_A_PAGE						\
	void (struct arch_tlbflush_unmap_batch *batch,			\
	      struct mm_struct *mm, unsigned long uaddr)

static struct mm_struct *__kprobes
on_tlbbatch_add_pending(struct tlbdiff_record *rec, struct pt_regs *regs)
{
	struct mm_struct *mm = (struct mm_struct *)arg(regs, 1);

	rec->start = arg(regs, 2);
	if (!__same_type(arch_tlbbatch_add_pending, ADD_PENDING_OF_A_PAGE))
		rec->end = arg(regs, 3);
	fill_mm(rec, mm);
	return mm;
}

static struct mm_struct *__kprobes
on_tlbbatch_flush(struct tlbdiff_record *rec, struct pt_regs *regs)
{
	struct arch_tlbflush_unmap_batch *batch;

	batch = (struct arch_tlbflush_unmap_batch *)arg(regs, 0);
	rec->cpumask = first_harts(&batch->cpumask);
	return NULL;
}

static struct mm_struct *__kprobes
on_sbi_rfence(struct tlbdiff_record *rec, struct pt_regs *regs)
{
	const struct cpumask *mask = (const struct cpumask *)arg(regs, 0);

	if (!mask) {
		mask = cpu_online_mask;
		rec->flags |= TLBDIFF_F_ALL_HARTS;
	}
	rec->cpumask = first_harts(mask);
	rec->start = arg(regs, 1);
	rec->arg = arg(regs, 2);
	rec->end = rec->start + rec->arg;
	rec->asid = arg(regs, 3);
	return NULL;
}

/* How a function is hooked is known from here to the end of hooks_missed(). */
struct tlbdiff_hook {
	struct kprobe kprobe;
	u16 kind;
	struct mm_struct *(*fill)(struct tlbdiff_record *rec,
				  struct pt_regs *regs);
};

static int hook_hit(struct kprobe *kprobe, struct pt_regs *regs);

#define HOOK(function, _kind, _fill) {			\
	.kprobe.symbol_name = function,			\
	.kprobe.pre_handler = hook_hit,			\
	.kind = TLBDIFF_ ## _kind,			\
	.fill = _fill,					\
}

/* Kbuild finds out which of those that come and go this kernel has. */
static struct tlbdiff_hook hooks[] = {
	HOOK("flush_tlb_all", FLUSH_TLB_ALL, on_flush_tlb_all),
	HOOK("flush_tlb_mm", FLUSH_TLB_MM, on_flush_tlb_mm),
	HOOK("flush_tlb_mm_range", FLUSH_TLB_MM_RANGE, on_flush_tlb_mm_range),
	HOOK("flush_tlb_page", FLUSH_TLB_PAGE, on_flush_tlb_page),
	HOOK("flush_tlb_range", FLUSH_TLB_RANGE, on_flush_tlb_range),
#ifdef CONFIG_TRANSPARENT_HUGEPAGE
	HOOK("flush_pmd_tlb_range", FLUSH_PMD_TLB_RANGE, on_flush_tlb_range),
#ifdef HAS_FLUSH_PUD_TLB_RANGE
	HOOK("flush_pud_tlb_range", FLUSH_PUD_TLB_RANGE, on_flush_tlb_range),
#endif
#endif
	HOOK("flush_tlb_kernel_range", FLUSH_TLB_KERNEL_RANGE,
	     on_flush_tlb_kernel_range),
	HOOK("arch_tlbbatch_add_pending", TLBBATCH_ADD_PENDING,
	     on_tlbbatch_add_pending),
	HOOK("arch_tlbbatch_flush", TLBBATCH_FLUSH, on_tlbbatch_flush),
#ifdef HAS_BATCHED_PENDING
	HOOK("arch_flush_tlb_batched_pending", TLB_BATCHED_PENDING,
	     on_flush_tlb_mm),
#endif
	HOOK("sbi_remote_sfence_vma_asid", SBI_RFENCE, on_sbi_rfence),
};

static int __kprobes hook_hit(struct kprobe *kprobe, struct pt_regs *regs)
{
	struct tlbdiff_hook *hook;
	struct tlbdiff_record rec = {};
	struct mm_struct *mm;

	if (!ring_tracing())
		return 0;
	hook = container_of(kprobe, struct tlbdiff_hook, kprobe);
	rec.kind = hook->kind;
	mm = hook->fill(&rec, regs);
	ring_add(&rec, mm);
	return 0;
}

static void hooks_remove(size_t count)
{
	struct kprobe *kprobes[ARRAY_SIZE(hooks)];
	size_t i;

	/* All at once: there is a grace period to wait for each time. */
	for (i = 0; i < count; i++)
		kprobes[i] = &hooks[i].kprobe;
	unregister_kprobes(kprobes, count);
}

static int hooks_install(void)
{
	size_t i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(hooks); i++) {
		ret = register_kprobe(&hooks[i].kprobe);
		if (ret) {
			pr_err("cannot hook %s: kprobe refused with %d%s\n",
			       hooks[i].kprobe.symbol_name, ret,
			       IS_ENABLED(CONFIG_FUNCTION_TRACER) ?
			       " (needs a kernel without FUNCTION_TRACER)" : "");
			hooks_remove(i);
			return ret;
		}
	}
	return 0;
}

/* How many entries were not recorded, being made from another kprobe. */
static u64 hooks_missed(void)
{
	u64 missed = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(hooks); i++)
		missed += READ_ONCE(hooks[i].kprobe.nmissed);
	return missed;
}

/*
 * The notifiers. All may run under spinlocks, and on any task: what unmaps
 * a page need not belong to the mm.
 */

static void notify_secondary_tlbs(struct mmu_notifier *mn, struct mm_struct *mm,
				  unsigned long start, unsigned long end)
{
	struct tlbdiff_record rec = {
		.kind = TLBDIFF_NOTIFY,
		.start = start,
		.end = end,
	};

	fill_mm(&rec, mm);
	ring_add(&rec, mm);
}

static void notify_range(const struct mmu_notifier_range *range, u16 kind)
{
	struct tlbdiff_record rec = {
		.kind = kind,
		.start = range->start,
		.end = range->end,
		.arg = range->event,
	};

	if (kind == TLBDIFF_RANGE_START && mmu_notifier_range_blockable(range))
		rec.flags |= TLBDIFF_F_BLOCKABLE;
	fill_mm(&rec, range->mm);
	ring_add(&rec, range->mm);
}

static int notify_range_start(struct mmu_notifier *mn,
			      const struct mmu_notifier_range *range)
{
	notify_range(range, TLBDIFF_RANGE_START);
	return 0;
}

static void notify_range_end(struct mmu_notifier *mn,
			     const struct mmu_notifier_range *range)
{
	notify_range(range, TLBDIFF_RANGE_END);
}

static void notify_release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	struct tlbdiff_record rec = { .kind = TLBDIFF_RELEASE };
	struct tlbdiff_mm *tmm;
	unsigned long flags;

	ring_add(&rec, mm);
	flags = ring_lock();
	tmm = ring_find_mm(mm);
	if (tmm) {
		tmm->released = true;
		ring.attached--;
	}
	ring_unlock(flags);
}

static void put_mm(struct tlbdiff_mm *tmm)
{
	if (!refcount_dec_and_test(&tmm->notifiers))
		return;
	kfree(tmm);
	if (atomic_dec_and_test(&mms_allocated))
		wake_up_var(&mms_allocated);
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

/* The device. session.lock is held by all of the following. */

static long ioctl_hello(struct tlbdiff_hello __user *user)
{
	struct tlbdiff_hello hello;
	struct tlbdiff_record *records;
	unsigned long flags;
	bool match;
	u32 capacity;

	if (session.greeted)
		return -EINVAL;
	if (copy_from_user(&hello, user, sizeof(hello)))
		return -EFAULT;
	match = hello.abi_version == TLBDIFF_ABI_VERSION &&
		hello.record_size == sizeof(struct tlbdiff_record);
	capacity = hello.buffer_records ?: TLBDIFF_DEFAULT_RECORDS;

	hello = (struct tlbdiff_hello) {
		.abi_version = TLBDIFF_ABI_VERSION,
		.record_size = sizeof(struct tlbdiff_record),
		.buffer_records = min(capacity, TLBDIFF_MAX_RECORDS),
	};
	if (copy_to_user(user, &hello, sizeof(hello)))
		return -EFAULT;
	if (!match)
		return -EPROTO;
	if (capacity > TLBDIFF_MAX_RECORDS)
		return -EINVAL;

	records = vmalloc_array(capacity, sizeof(*records));
	if (!records)
		return -ENOMEM;

	flags = ring_lock();
	ring.records = records;
	ring.capacity = capacity;
	ring_unlock(flags);
	session.greeted = true;
	return 0;
}

static long ioctl_attach(void)
{
	struct mm_struct *mm = current->mm;
	struct tlbdiff_mm *tmm;
	unsigned long flags;
	int ret;

	if (!mm)
		return -EINVAL;
	/* Only holders of session.lock change the table. */
	if (ring_find_mm(mm))
		return -EEXIST;

	tmm = kzalloc(sizeof(*tmm), GFP_KERNEL);
	if (!tmm)
		return -ENOMEM;
	tmm->mm = mm;
	tmm->secondary_tlbs.ops = &secondary_tlbs_ops;
	tmm->ranges.ops = &ranges_ops;
	refcount_set(&tmm->notifiers, 2);

	ret = mmu_notifier_register(&tmm->secondary_tlbs, mm);
	if (ret)
		goto free;
	ret = mmu_notifier_register(&tmm->ranges, mm);
	if (ret)
		goto unregister_secondary_tlbs;

	atomic_inc(&mms_allocated);
	tmm->number = ++session.last_number;
	flags = ring_lock();
	hash_add(ring.mms, &tmm->node, (unsigned long)mm);
	ring.attached++;
	ring_unlock(flags);
	return 0;

unregister_secondary_tlbs:
	mmu_notifier_unregister(&tmm->secondary_tlbs, mm);
free:
	kfree(tmm);
	return ret;
}

/*
 * Does not wait for callbacks under way: a grace period takes milliseconds.
 * They find the table empty and record nothing; what they stand on is freed
 * after them, at the latest before the module is.
 */
static void detach_all(void)
{
	struct hlist_node *next;
	struct tlbdiff_mm *tmm;
	unsigned long flags;
	int bucket;

	hash_for_each_safe(ring.mms, bucket, next, tmm, node) {
		flags = ring_lock();
		hash_del(&tmm->node);
		ring_unlock(flags);
		mmu_notifier_put(&tmm->ranges);
		mmu_notifier_put(&tmm->secondary_tlbs);
	}
}

static long ioctl_trace(bool on)
{
	unsigned long flags = ring_lock();

	WRITE_ONCE(ring.tracing, on);
	ring_unlock(flags);
	return 0;
}

/* A mark that would not be recorded is a mistake of the caller. */
static long ioctl_mark(const struct tlbdiff_mark __user *user)
{
	struct tlbdiff_record rec = { .kind = TLBDIFF_MARK };
	struct tlbdiff_mark mark;

	if (copy_from_user(&mark, user, sizeof(mark)))
		return -EFAULT;
	if (!ring_tracing())
		return -EINVAL;
	rec.start = mark.step;
	rec.end = mark.phase;
	ring_add(&rec, current->mm);
	return 0;
}

static long ioctl_status(struct tlbdiff_status __user *user)
{
	struct mm_struct *mm = current->mm;
	struct tlbdiff_status status;
	unsigned long flags;

	flags = ring_lock();
	status.recorded = ring.seq;
	status.lost = ring.lost;
	status.mm = ring_mm_number(mm, ring_find_mm(mm));
	status.attached = ring.attached;
	ring_unlock(flags);

	status.lost += hooks_missed() - session.missed_before;
	return copy_to_user(user, &status, sizeof(status)) ? -EFAULT : 0;
}

static long tlbdiff_dispatch(unsigned int cmd, void __user *user)
{
	if (cmd == TLBDIFF_IOC_HELLO)
		return ioctl_hello(user);
	if (!session.greeted)
		return -EINVAL;

	switch (cmd) {
	case TLBDIFF_IOC_ATTACH:
		return ioctl_attach();
	case TLBDIFF_IOC_START:
		return ioctl_trace(true);
	case TLBDIFF_IOC_STOP:
		return ioctl_trace(false);
	case TLBDIFF_IOC_MARK:
		return ioctl_mark(user);
	case TLBDIFF_IOC_STATUS:
		return ioctl_status(user);
	default:
		return -ENOTTY;
	}
}

static long tlbdiff_ioctl(struct file *file, unsigned int cmd,
			  unsigned long user)
{
	long ret;

	if (mutex_lock_interruptible(&session.lock))
		return -ERESTARTSYS;
	ret = tlbdiff_dispatch(cmd, (void __user *)user);
	mutex_unlock(&session.lock);
	return ret;
}

/*
 * Copies up to @want records that lie in one piece. The writers leave unread
 * records alone, so only the bookkeeping needs the ring's lock.
 */
static ssize_t read_piece(char __user *buf, size_t want)
{
	unsigned long flags;
	u32 first, count;

	flags = ring_lock();
	first = ring.first;
	count = min3((size_t)ring.used, (size_t)ring.capacity - first, want);
	ring_unlock(flags);

	if (copy_to_user(buf, &ring.records[first],
			 count * sizeof(struct tlbdiff_record)))
		return -EFAULT;

	flags = ring_lock();
	ring.first = first + count == ring.capacity ? 0 : first + count;
	ring.used -= count;
	ring_unlock(flags);
	return count;
}

static ssize_t tlbdiff_read(struct file *file, char __user *buf, size_t size,
			    loff_t *pos)
{
	const size_t record = sizeof(struct tlbdiff_record);
	size_t want = size / record;
	size_t done = 0;
	ssize_t got;

	if (!want)
		return -EINVAL;
	if (mutex_lock_interruptible(&session.lock))
		return -ERESTARTSYS;
	got = session.greeted ? read_piece(buf, want) : -EINVAL;
	while (got > 0) {
		done += got;
		got = read_piece(buf + done * record, want - done);
	}
	mutex_unlock(&session.lock);

	return done ? done * record : got;
}

static int tlbdiff_open(struct inode *inode, struct file *file)
{
	unsigned long flags;

	if (test_and_set_bit_lock(0, &device_busy))
		return -EBUSY;

	session.greeted = false;
	session.last_number = 0;
	session.missed_before = hooks_missed();

	flags = ring_lock();
	ring.first = 0;
	ring.used = 0;
	ring.seq = 0;
	ring.lost = 0;
	ring.attached = 0;
	ring_unlock(flags);
	get_random_bytes(&ring.key, sizeof(ring.key));
	return stream_open(inode, file);
}

/* No system call on the file is under way and none can come. */
static int tlbdiff_release(struct inode *inode, struct file *file)
{
	struct tlbdiff_record *records;
	unsigned long flags;

	ioctl_trace(false);
	detach_all();

	flags = ring_lock();
	records = ring.records;
	ring.records = NULL;
	ring.capacity = 0;
	ring_unlock(flags);
	vfree(records);

	clear_bit_unlock(0, &device_busy);
	return 0;
}

static const struct file_operations tlbdiff_fops = {
	.owner = THIS_MODULE,
	.open = tlbdiff_open,
	.release = tlbdiff_release,
	.read = tlbdiff_read,
	.unlocked_ioctl = tlbdiff_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice tlbdiff_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = TLBDIFF_DEVICE,
	.fops = &tlbdiff_fops,
	.mode = 0600,
};

static int __init tlbdiff_init(void)
{
	int ret;

	ret = hooks_install();
	if (ret)
		return ret;
	ret = misc_register(&tlbdiff_device);
	if (ret) {
		pr_err("cannot register /dev/" TLBDIFF_DEVICE ": %d\n", ret);
		hooks_remove(ARRAY_SIZE(hooks));
	}
	return ret;
}

static void __exit tlbdiff_exit(void)
{
	misc_deregister(&tlbdiff_device);
	hooks_remove(ARRAY_SIZE(hooks));
	/*
	 * The second waits for a grace period only, not for what is called
	 * after it; the first not for the last call's return.
	 */
	wait_var_event(&mms_allocated, !atomic_read(&mms_allocated));
	mmu_notifier_synchronize();
}

module_init(tlbdiff_init);
module_exit(tlbdiff_exit);

MODULE_DESCRIPTION("Traces TLB flushes and what secondary MMUs are told");
MODULE_LICENSE("GPL");
MODULE_INFO(test, "Y");
