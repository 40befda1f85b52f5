/* A task's box in the shared memory, as C has it; layout.h has it for task.S. */
#ifndef BOX_H
#define BOX_H

#include "layout.h"
#include "sys.h"

#define MAX_HANDLED	8

struct box {
	u64 self;
	u32 command, taken, done, valid;
	s64 result;
	u64 kind, number, arguments[6];
	u64 ssp, rsp, features;
	u32 tid, handled;
	u32 signals[MAX_HANDLED];
	u64 si_code, trapno, error, address, faults;
	u64 child;
	char unused[BOX_SCRATCH - BOX_CHILD - 8];
	char scratch[BOX_SIZE - BOX_SCRATCH];
};

#define AT(member, offset) \
	_Static_assert(offsetof(struct box, member) == (offset), "task.S has it elsewhere")

AT(command, BOX_COMMAND);
AT(taken, BOX_TAKEN);
AT(done, BOX_DONE);
AT(valid, BOX_VALID);
AT(result, BOX_RESULT);
AT(kind, BOX_KIND);
AT(number, BOX_NUMBER);
AT(arguments, BOX_ARGUMENTS);
AT(ssp, BOX_SSP);
AT(rsp, BOX_RSP);
AT(features, BOX_FEATURES);
AT(tid, BOX_TID);
AT(handled, BOX_HANDLED);
AT(signals, BOX_SIGNALS);
AT(si_code, BOX_SI_CODE);
AT(trapno, BOX_TRAPNO);
AT(error, BOX_ERROR);
AT(address, BOX_ADDRESS);
AT(faults, BOX_FAULTS);
AT(child, BOX_CHILD);
AT(scratch, BOX_SCRATCH);

#define BOX(slot)	((struct box *)(uintptr_t)(BOXES + (slot) * BOX_SIZE))

#undef AT

#endif
