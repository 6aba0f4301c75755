/* Temporary names beside a target, private to the out door: .DST.nnferry-HOST-PID-BOOT, where BOOT
 * is the boot id, the pid namespace and the start time of the owner, so that a later run can
 * prove the owner dead. All calls are relative to an open folder.
 */
#ifndef BASE_OUT_TEMP_H
#define BASE_OUT_TEMP_H
#include "base/err.h"

#define OUT_NAME_MAX 256

/* Our own temporary name for base; try > 0 gives other names for one process. */
void out_temp_name(const char *base, unsigned try, char out[OUT_NAME_MAX]);
/* Removes temporaries of base in the folder whose owners are provably dead: same host and boot and
 * pid namespace and no such process; on a local file system an earlier boot of this host too. */
void out_remove_dead(int dir, const char *base, bool network);
/* Each 0 or an errno. The two change names in one step; the new name, which must not be there, or
 * may, gets what temp has. A new name is made by renameat2 where the file system can, else by a
 * hard link (files), else by looking first; an old folder is exchanged. */
int out_exchange(int dir, const char *a, const char *b);
int out_rename_new(int dir, const char *temp, const char *name, bool is_dir);
int out_rename_over(int dir, const char *temp, const char *name, bool is_dir);
/* Removes a file or a whole folder, symlinks not followed; 0 or an errno. */
int out_remove_tree(int dir, const char *name);
#endif
