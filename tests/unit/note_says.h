/* What a plan says of a layer's setting; includers have `static struct plan p`. */
static const struct plan_note *note_on(const char *layer, const char *setting)
{
    for (size_t i = 0; i < p.n_notes; i++)
        if (str_is(p.note[i].layer, layer) && strcmp(p.note[i].setting, setting) == 0)
            return &p.note[i];
    return NULL;
}

static void says(const char *layer, const char *setting, const char *text)
{
    const struct plan_note *n = note_on(layer, setting);
    if (!n)
        fail_msg("no note on %s %s", layer, setting);
    else if (!str_is(n->text, text))
        fail_msg("%.*s", STR_ARG(n->text));
}
