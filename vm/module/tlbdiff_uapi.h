/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * What the tracing module and the agent share. Fixed-width fields only; the
 * agent's mirror of this file is vm/protocol/src/uapi.rs, which a test compares.
 *
 * Life of a trace: open /dev/tlbdiff, HELLO, each traced process says ATTACH
 * for its own mm, WATCH where page tables are of interest, START, MARKs
 * between the steps, STOP, read() until it returns 0, close. Who ends after
 * STOP may say DETACH before. Closing the last descriptor of the open file
 * undoes all.
 *
 * Or whatever a program does is traced: open, HELLO, FOLLOW, START, its process
 * says ATTACH and becomes the program, read() as records come, STOP, close. With
 * WATCH before START, and WALK now and then, it is recorded what page tables hold.
 *
 * Or steps are counted: open, HELLO, each process says SUBSCRIBE for its own
 * mm, COUNT on both sides of a step, close. From SUBSCRIBE to the next START
 * nothing is hooked.
 */
#ifndef TLBDIFF_UAPI_H
#define TLBDIFF_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define TLBDIFF_ABI_VERSION	13
#define TLBDIFF_DEVICE		"tlbdiff"

/* What a record is about. Numbers are never reused. */
enum tlbdiff_kind {
	TLBDIFF_MARK				= 1,
	TLBDIFF_NOTIFY				= 2,	/* arch_invalidate_secondary_tlbs */
	TLBDIFF_RANGE_START			= 3,	/* invalidate_range_start */
	TLBDIFF_RANGE_END			= 4,	/* invalidate_range_end */
	TLBDIFF_RELEASE				= 5,	/* the mm is going away */
	TLBDIFF_SBI_RFENCE			= 6,	/* sbi_remote_sfence_vma_asid */
	TLBDIFF_FREED				= 7,	/* page frames were given back */
	TLBDIFF_TABLES				= 8,	/* of an mm, what follows; or the end */
	TLBDIFF_TABLE				= 9,	/* an entry that refers to a table */
	TLBDIFF_LEAVES				= 10,	/* leaf entries of one kind */
	TLBDIFF_HELD				= 11,	/* pages that an IOMMU has cached */
	TLBDIFF_IOMMU_FAULT			= 12,	/* ... refused to load */
	TLBDIFF_IOMMU_ERROR			= 13,	/* ... could not be driven */
	TLBDIFF_CHAIN				= 14,	/* return addresses: who called */
	TLBDIFF_SYMBOL				= 15,	/* the name of one of them */

	/* Entries into arch/riscv/mm/tlbflush.c. */
	TLBDIFF_FLUSH_TLB_ALL			= 16,
	TLBDIFF_FLUSH_TLB_MM			= 17,
	TLBDIFF_FLUSH_TLB_MM_RANGE		= 18,
	TLBDIFF_FLUSH_TLB_PAGE			= 19,
	TLBDIFF_FLUSH_TLB_RANGE			= 20,
	TLBDIFF_FLUSH_PMD_TLB_RANGE		= 21,
	TLBDIFF_FLUSH_PUD_TLB_RANGE		= 22,
	TLBDIFF_FLUSH_TLB_KERNEL_RANGE		= 23,
	TLBDIFF_TLBBATCH_ADD_PENDING		= 24,
	TLBDIFF_TLBBATCH_FLUSH			= 25,
	TLBDIFF_TLB_BATCHED_PENDING		= 26,

	TLBDIFF_TASK				= 27,	/* who is followed */
};

#define TLBDIFF_F_ATTACHED	0x1u	/* this mm's notifications are traced */
#define TLBDIFF_F_HUGETLB	0x4u	/* FLUSH_TLB_RANGE: the vma is hugetlb */
#define TLBDIFF_F_ALL_HARTS	0x8u	/* SBI_RFENCE: cpu_mask was NULL */
#define TLBDIFF_F_POOL		0x10u	/* FREED: to hugetlb's pool */
#define TLBDIFF_F_SAME_FRAME	0x20u	/* LEAVES: all have the frame of the first */
#define TLBDIFF_F_BEFORE	0x40u	/* TABLE, LEAVES: in a step, outside TABLES */
#define TLBDIFF_F_RUNNING	0x80u	/* TABLES: programs run meanwhile */
#define TLBDIFF_F_FLUSHING	0x100u	/* ... a flush was due when it ended */

/* What an IOMMU failed at. */
#define TLBDIFF_FAILED_COMMANDS	1	/* its command queue stopped: cqcsr */
#define TLBDIFF_FAILED_TIMEOUT	2	/* commands were not done in time: cqcsr */
#define TLBDIFF_FAILED_FAULTS	3	/* its fault queue stopped: fqcsr */
#define TLBDIFF_FAILED_MEMORY	4	/* what it holds could not be noted */
#define TLBDIFF_FAILED_DEVICE	5	/* the device did not move bytes in time */

/*
 * One record: 80 bytes, little-endian.
 *
 * kind			start	end		arg		cpumask		asid
 * MARK			step	phase		0		0		0
 * NOTIFY		start	end		0		mm_cpumask	ASID
 * RANGE_START/END	start	end		event type	mm_cpumask	ASID
 * SBI_RFENCE		start	start + size	size		target mask	asid as passed
 * FREED		start	end		0		0		0
 *	(physical addresses)
 * TABLES		start	end		0 begin, 1 end	0		0
 *	(RUNNING: until the end comes, what this task records is of it; it may
 *	end before where it was to)
 * TABLE		start	end		the entry	0		0
 *	(of what it translates)
 * LEAVES		start	end		the first entry	bytes of each	0
 *	(each next one has the next frame; entries without A and RSW)
 * HELD			start	end		the first entry	bytes of a leaf	0
 *	(as it was loaded; each next page has the next frame)
 * IOMMU_FAULT		address	0		cause		0		0
 * IOMMU_ERROR		a register's value	TLBDIFF_FAILED_*	0		0
 * CHAIN		five return addresses, from the function's caller outwards; 0 for none
 *	(flags: how many of this chain are in records before it)
 * SYMBOL		40 bytes of the text `function+0xoffset/0xsize`, of the byte before
 *	(flags: how many bytes of this text are in records before it)
 * TASK			16 bytes of its name	0		0		0
 * FLUSH_TLB_ALL	0	0		0		cpu_online_mask	0
 * FLUSH_TLB_MM		0	0		0		mm_cpumask	ASID
 * FLUSH_TLB_MM_RANGE	start	end		page_size	mm_cpumask	ASID
 * FLUSH_TLB_PAGE	addr	addr+PAGE_SIZE	0		mm_cpumask	ASID
 * FLUSH_*_TLB_RANGE	start	end		huge_page_size	mm_cpumask	ASID
 *						or 0
 * KERNEL_RANGE		start	end		0		cpu_online_mask	0
 * ADD_PENDING		start	end		0		mm_cpumask	ASID
 *	(6.12 passes uaddr: start = uaddr, end = 0)
 * TLBBATCH_FLUSH	0	0		0		batch's mask	0
 * TLB_BATCHED_PENDING	0	0		0		mm_cpumask	ASID
 *
 * mm is a number that is the same for one mm_struct as long as the file is
 * open and says nothing else; 0 where there is no mm. Those that attached are
 * numbered from 1 from then on; others have the top bit set, and an address
 * used again gives a number used before. asid is cntx2asid() of
 * the mm's context at entry. cpumask holds harts 0 to 63 by Linux's number.
 *
 * chain is, of an entry into tlbflush.c and of CHAIN, the number of the chain of
 * its callers, which comes before it; 0 where they are not known. With
 * TLBDIFF_WATCH_RUNNING also of RANGE_START and FREED. Of SYMBOL it is the return
 * address, and these come when the trace is stopped.
 */
struct tlbdiff_record {
	__u64 seq;		/* global order, from 0, without gaps */
	__u64 mm;
	__u64 start;
	__u64 end;
	__u64 arg;
	__u64 cpumask;
	__u64 asid;
	__s32 pid;		/* of the running task */
	__s32 tgid;
	__u16 kind;
	__u16 hart;		/* Linux's number of the running hart */
	__u32 flags;
	__u64 chain;
};

/* In: what the caller was built with. Out: what the module was built with. */
struct tlbdiff_hello {
	__u32 abi_version;
	__u32 record_size;
	__u32 buffer_records;	/* in: 0 for the module's default */
	__u32 facts;		/* out: TLBDIFF_FACT_* */
};

#define TLBDIFF_FACT_KPROBES	0x1u	/* functions are hooked by kprobes */
#define TLBDIFF_FACT_FTRACE	0x2u	/* ... by the function tracer */
#define TLBDIFF_FACT_SPARSEMEM	0x4u	/* CONFIG_SPARSEMEM */
#define TLBDIFF_FACT_ASIDS	0x8u	/* use_asid_allocator */
#define TLBDIFF_FACT_SBI_RFENCE	0x10u	/* riscv_use_sbi_for_rfence() */
#define TLBDIFF_FACT_SVNAPOT	0x20u	/* has_svnapot() */

struct tlbdiff_mark {
	__u64 step;
	__u64 phase;		/* 0 begin, 1 end */
};

struct tlbdiff_status {
	__u64 recorded;
	__u64 lost;
	__u64 mm;		/* the caller's mm, as records name it */
	__u64 attached;		/* mms attached now */
	__u64 unfollowed;	/* mms that could not be followed */
};

/* Bytes, whole pages. Empty: nothing is watched. */
struct tlbdiff_watch {
	__u64 start;
	__u64 end;
	__u64 flags;		/* TLBDIFF_WATCH_* */
};

/* Also of each range, before anything is taken from it (invalidate_range_start). */
#define TLBDIFF_WATCH_EAGER	0x1u
/*
 * Programs run meanwhile: what the range of invalidate_range_start holds, once the
 * system call or fault is over that it was a part of; and what WALK asks for.
 */
#define TLBDIFF_WATCH_RUNNING	0x2u

/*
 * WALK: a part of what one of the followed mms holds. Begin with zeros, and give
 * back what comes; mm is 0 when all of them have been looked at.
 */
struct tlbdiff_walk {
	__u64 mm;
	__u64 start;
};

/* Bytes of the file, whole pages. */
struct tlbdiff_zap {
	__u64 start;
	__u64 length;
};

/* COUNT: in phase 1, what was counted since phase 0; 0 for what does not count. */
struct tlbdiff_count {
	__u64 phase;		/* in: 0 begin, 1 end */
	__u64 cycles;
	__u64 instructions;
	__u64 nanoseconds;
	__u64 calls;		/* of subscribers' callbacks */
};

#define TLBDIFF_IOC_HELLO	_IOWR('t', 0, struct tlbdiff_hello)
#define TLBDIFF_IOC_ATTACH	_IO('t', 1)
#define TLBDIFF_IOC_START	_IO('t', 2)
#define TLBDIFF_IOC_STOP	_IO('t', 3)
#define TLBDIFF_IOC_MARK	_IOW('t', 4, struct tlbdiff_mark)
#define TLBDIFF_IOC_STATUS	_IOR('t', 5, struct tlbdiff_status)
/* Between steps: the statistics of all cgroups are as of now. */
#define TLBDIFF_IOC_FLUSH_STATS	_IO('t', 6)
/* So many subscribers for the caller's mm, which do nothing. */
#define TLBDIFF_IOC_SUBSCRIBE	_IOW('t', 7, __u32)
#define TLBDIFF_IOC_COUNT	_IOWR('t', 8, struct tlbdiff_count)
/* The caller's mm again: its end need not wait for notifiers to return. */
#define TLBDIFF_IOC_DETACH	_IO('t', 9)
/*
 * After each step: what the attached mms' page tables hold there. And whatever of
 * the frames that they were seen to refer to is given back.
 */
#define TLBDIFF_IOC_WATCH	_IOW('t', 10, struct tlbdiff_watch)
/* Takes pages that mmap() of the file has mapped from all who have them. */
#define TLBDIFF_IOC_ZAP		_IOW('t', 11, struct tlbdiff_zap)
/* Who is born of who attached attaches too, and anew at each exec. */
#define TLBDIFF_IOC_FOLLOW	_IO('t', 12)
#define TLBDIFF_IOC_WALK	_IOWR('t', 13, struct tlbdiff_walk)

#endif
