// The programs in the kernel's image. Context: any.
#include <lib/string.h>
#include <user/program.h>

LINKER_SET(program, program);

const struct program *program_find(const char *name)
{
    return set_find_by_name(program, name);
}

const struct program *program_list(unsigned k)
{
    return k < (size_t)(set_program_end - set_program_start) ? &set_program_start[k] : NULL;
}
