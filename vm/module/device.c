// SPDX-License-Identifier: GPL-2.0-only
/*
 * tlbdiff: records what arch/riscv/mm/tlbflush.c was asked to flush and what
 * secondary MMUs were notified of.
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
 * - After TLBDIFF_RELEASE nobody is notified about that mm any more: the core
 *   drops all notifiers before it unmaps the last pages.
 *
 * - What page tables hold is recorded right after the mark that ends a step, of
 *   all attached mms (tables.c); that a frame goes back, where it does (frames.c).
 *
 * Everything that a trace needs hangs on the open file.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitops.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <asm/pgtable.h>
#include <asm/sbi.h>
#include <asm/tlbflush.h>

#include "tlbdiff.h"

#define DEFAULT_RECORDS		65536
#define MAX_RECORDS		1048576

/* How long a step waits for the trace to be read. Nobody may be reading. */
#define AWAIT_ROOM		HZ

static unsigned long device_busy;

/* What only the open file's system calls touch. */
static struct {
	struct mutex lock;	/* over all system calls but open and close */
	bool greeted;
	u64 missed_before;	/* hooks missed before the file was opened */
} session = {
	.lock = __MUTEX_INITIALIZER(session.lock),
};

/* What cannot be seen from user space, or only in a log that may be gone. */
static u32 facts(void)
{
	u32 facts = hooks_methods();

	if (IS_ENABLED(CONFIG_SPARSEMEM))
		facts |= TLBDIFF_FACT_SPARSEMEM;
	/* Only the allocator gives an id, and the caller's mm is loaded. */
	if (atomic_long_read(&current->mm->context.id))
		facts |= TLBDIFF_FACT_ASIDS;
	if (riscv_use_sbi_for_rfence())
		facts |= TLBDIFF_FACT_SBI_RFENCE;
	if (has_svnapot())
		facts |= TLBDIFF_FACT_SVNAPOT;
	return facts;
}

/*
 * The buffer of the usual size stays from file to file: to make one takes longer
 * than a short trace.
 */
static int buffer_of(u32 capacity)
{
	struct tlbdiff_record *records;

	if (ring_capacity() == capacity)
		return 0;
	records = vmalloc_array(capacity, sizeof(*records));
	if (!records)
		return -ENOMEM;
	vfree(ring_replace(records, capacity));
	return 0;
}

static long ioctl_hello(struct tlbdiff_hello __user *user)
{
	struct tlbdiff_hello hello;
	bool match;
	u32 capacity;
	int ret;

	if (session.greeted || !current->mm)
		return -EINVAL;
	if (copy_from_user(&hello, user, sizeof(hello)))
		return -EFAULT;
	match = hello.abi_version == TLBDIFF_ABI_VERSION &&
		hello.record_size == sizeof(struct tlbdiff_record);
	capacity = hello.buffer_records ?: DEFAULT_RECORDS;

	hello = (struct tlbdiff_hello) {
		.abi_version = TLBDIFF_ABI_VERSION,
		.record_size = sizeof(struct tlbdiff_record),
		.buffer_records = min_t(u32, capacity, MAX_RECORDS),
		.facts = facts(),
	};
	if (copy_to_user(user, &hello, sizeof(hello)))
		return -EFAULT;
	if (!match)
		return -EPROTO;
	if (capacity > MAX_RECORDS)
		return -EINVAL;

	ret = buffer_of(capacity);
	if (ret)
		return ret;
	session.greeted = true;
	return 0;
}

static long ioctl_attach(void)
{
	if (!current->mm)
		return -EINVAL;
	return notifiers_attach(current->mm);
}

static long ioctl_detach(void)
{
	if (!current->mm)
		return -EINVAL;
	return notifiers_detach(current->mm);
}

static long ioctl_trace(bool on)
{
	int ret;

	if (on) {
		ret = hooks_install();
		if (ret)
			return ret;
		callers_begin();
	} else if (ring_tracing()) {
		callers_end();
	}
	ring_trace(on);
	still_step(false);
	return 0;
}

static long ioctl_subscribe(const u32 __user *user)
{
	u32 number;

	if (!current->mm)
		return -EINVAL;
	if (get_user(number, user))
		return -EFAULT;
	hooks_remove();
	return count_subscribe(current->mm, number);
}

/* As with marks, a step begins with an empty TLB. */
static long ioctl_count(struct tlbdiff_count __user *user)
{
	struct tlbdiff_count count = {};
	u64 phase;

	if (get_user(phase, &user->phase))
		return -EFAULT;
	if (!phase) {
		local_flush_tlb_all();
		still_step(true);
		count_begin();
		return 0;
	}
	count_end(&count);
	still_step(false);
	return copy_to_user(user, &count, sizeof(count)) ? -EFAULT : 0;
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
	/*
	 * Reclaim clears accessed bits without a fence. With what the hart
	 * still has in its TLB, whether the next access sets the bit again
	 * would depend on what else has run here since.
	 */
	if (!mark.phase)
		local_flush_tlb_all();
	still_step(!mark.phase);
	ring_add(&rec, current->mm);
	if (mark.phase)
		tables_record();
	return 0;
}

/* From the caller's mm on, all that attach are watched there. */
static long ioctl_watch(const struct tlbdiff_watch __user *user)
{
	const u64 known = TLBDIFF_WATCH_EAGER | TLBDIFF_WATCH_RUNNING;
	struct tlbdiff_watch watch;

	if (copy_from_user(&watch, user, sizeof(watch)))
		return -EFAULT;
	/* All of it, whatever the levels of page tables are. */
	if (watch.end == ULONG_MAX)
		watch.end = TASK_SIZE;
	if (watch.start > watch.end || watch.end > TASK_SIZE ||
	    !PAGE_ALIGNED(watch.start) || !PAGE_ALIGNED(watch.end) ||
	    watch.flags & ~known)
		return -EINVAL;
	tables_watch(watch.start, watch.end, watch.flags);
	return 0;
}

/* The mm may be ended here, where its program has ended meanwhile: by another. */
static long ioctl_walk(struct tlbdiff_walk __user *user)
{
	struct tlbdiff_walk walk;
	struct mm_struct *mm;
	u64 number;

	if (copy_from_user(&walk, user, sizeof(walk)))
		return -EFAULT;
	number = walk.mm;
	mm = ring_get_mm(&number);
	if (number != walk.mm)
		walk.start = 0;
	walk.mm = number;
	if (mm) {
		walk.start = tables_record_part(mm, walk.start, TASK_SIZE);
		mmput_async(mm);
	}
	if (number && (!mm || walk.start == TASK_SIZE)) {
		walk.mm++;
		walk.start = 0;
	}
	return copy_to_user(user, &walk, sizeof(walk)) ? -EFAULT : 0;
}

static long ioctl_zap(struct file *file, const struct tlbdiff_zap __user *user)
{
	struct tlbdiff_zap zap;

	if (copy_from_user(&zap, user, sizeof(zap)))
		return -EFAULT;
	return pages_zap(file, zap.start, zap.length);
}

static long ioctl_status(struct tlbdiff_status __user *user)
{
	struct tlbdiff_status status;

	ring_status(&status, current->mm);
	status.lost += hooks_missed() - session.missed_before;
	status.unfollowed = follow_missed();
	return copy_to_user(user, &status, sizeof(status)) ? -EFAULT : 0;
}

static long tlbdiff_dispatch(struct file *file, unsigned int cmd,
			     void __user *user)
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
	case TLBDIFF_IOC_SUBSCRIBE:
		return ioctl_subscribe(user);
	case TLBDIFF_IOC_COUNT:
		return ioctl_count(user);
	case TLBDIFF_IOC_DETACH:
		return ioctl_detach();
	case TLBDIFF_IOC_WATCH:
		return ioctl_watch(user);
	case TLBDIFF_IOC_ZAP:
		return ioctl_zap(file, user);
	case TLBDIFF_IOC_FOLLOW:
		return follow_begin();
	case TLBDIFF_IOC_WALK:
		return ioctl_walk(user);
	case TLBDIFF_IOC_FLUSH_STATS:
		return still_flush_stats();
	default:
		return -ENOTTY;
	}
}

static long tlbdiff_ioctl(struct file *file, unsigned int cmd,
			  unsigned long user)
{
	long ret;

	/* Without the lock, which the reader needs. */
	if (cmd == TLBDIFF_IOC_MARK)
		ring_await_room(AWAIT_ROOM);
	if (mutex_lock_interruptible(&session.lock))
		return -ERESTARTSYS;
	ret = tlbdiff_dispatch(file, cmd, (void __user *)user);
	mutex_unlock(&session.lock);
	return ret;
}

/* Copies up to @want records that lie in one piece. */
static ssize_t read_piece(char __user *buf, size_t want)
{
	const struct tlbdiff_record *records;
	size_t count;

	count = min_t(size_t, ring_peek(&records), want);
	if (copy_to_user(buf, records, count * sizeof(*records)))
		return -EFAULT;
	ring_consume(count);
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

static int tlbdiff_mmap(struct file *file, struct vm_area_struct *vma)
{
	return pages_map(vma);
}

static int tlbdiff_open(struct inode *inode, struct file *file)
{
	if (test_and_set_bit_lock(0, &device_busy))
		return -EBUSY;

	session.greeted = false;
	tables_watch(0, 0, 0);
	session.missed_before = hooks_missed();
	ring_reset();
	secondary_begin();
	return stream_open(inode, file);
}

/* No system call on the file is under way and none can come. */
static int tlbdiff_release(struct inode *inode, struct file *file)
{
	ring_trace(false);
	still_step(false);
	follow_end();
	notifiers_detach_all();
	secondary_end();
	count_unsubscribe_all();
	pages_free();
	if (ring_capacity() != DEFAULT_RECORDS)
		vfree(ring_replace(NULL, 0));
	clear_bit_unlock(0, &device_busy);
	return 0;
}

static const struct file_operations tlbdiff_fops = {
	.owner = THIS_MODULE,
	.open = tlbdiff_open,
	.release = tlbdiff_release,
	.read = tlbdiff_read,
	.mmap = tlbdiff_mmap,
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
		hooks_remove();
		return ret;
	}
	still_install();
	return 0;
}

static void __exit tlbdiff_exit(void)
{
	misc_deregister(&tlbdiff_device);
	still_remove();
	hooks_remove();
	frames_free();
	follow_wait();
	notifiers_wait();
	vfree(ring_replace(NULL, 0));
}

module_init(tlbdiff_init);
module_exit(tlbdiff_exit);

MODULE_DESCRIPTION("Traces TLB flushes and what secondary MMUs are notified of");
MODULE_LICENSE("GPL");
MODULE_INFO(test, "Y");
