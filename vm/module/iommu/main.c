// SPDX-License-Identifier: GPL-2.0-only
/*
 * tlbdiff-iommu: a device behind a RISC-V IOMMU that shares the page tables of the
 * mms that tlbdiff traces. Loaded only where that is asked for.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "../tlbdiff_iommu_uapi.h"
#include "iommu.h"

static char *policy = "leaf";
module_param(policy, charp, 0444);
MODULE_PARM_DESC(policy, "what notifications become: leaf, exact, all or none");

static const char * const policies[] = {
	[POLICY_LEAF] = "leaf",
	[POLICY_EXACT] = "exact",
	[POLICY_ALL] = "all",
	[POLICY_NONE] = "none",
};

static long iommu_ioctl(struct file *file, unsigned int cmd, unsigned long user)
{
	struct tlbdiff_dma dma;
	long ret;

	if (cmd != TLBDIFF_IOC_DMA)
		return -ENOTTY;
	if (copy_from_user(&dma, (void __user *)user, sizeof(dma)))
		return -EFAULT;
	ret = bound_dma(&dma);
	if (!ret && copy_to_user((void __user *)user, &dma, sizeof(dma)))
		return -EFAULT;
	return ret;
}

static const struct file_operations iommu_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = iommu_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice iommu_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = TLBDIFF_IOMMU_DEVICE,
	.fops = &iommu_fops,
	.mode = 0600,
};

static int __init iommu_init(void)
{
	int ret, chosen = match_string(policies, ARRAY_SIZE(policies), policy);

	if (chosen < 0) {
		pr_err("no policy is called %s\n", policy);
		return chosen;
	}
	ret = devices_start();
	if (ret)
		return ret;
	ret = hardware_start();
	if (ret)
		goto stop_devices;
	ret = bound_start(chosen);
	if (ret)
		goto stop_hardware;
	ret = misc_register(&iommu_device);
	if (!ret)
		return 0;
	bound_stop();
stop_hardware:
	hardware_stop();
stop_devices:
	devices_stop();
	return ret;
}

static void __exit iommu_exit(void)
{
	misc_deregister(&iommu_device);
	bound_stop();
	hardware_stop();
	devices_stop();
}

module_init(iommu_init);
module_exit(iommu_exit);

MODULE_DESCRIPTION("A device that shares page tables with what tlbdiff traces");
MODULE_LICENSE("GPL");
MODULE_INFO(test, "Y");
