/* A reader for one line of JSON. Values land in a flat table by path, strings in place. */
#include "agent.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH 6

struct reader {
	char *at, *end;
	struct json *doc;
};

static bool read_value(struct reader *in, char *path, size_t length, unsigned depth);

static void skip_blanks(struct reader *in)
{
	while (in->at < in->end && (*in->at == ' ' || *in->at == '\t' || *in->at == '\r'))
		in->at++;
}

static bool take(struct reader *in, char wanted)
{
	skip_blanks(in);
	if (in->at >= in->end || *in->at != wanted)
		return false;
	in->at++;
	return true;
}

static bool take_word(struct reader *in, const char *word)
{
	size_t length = strlen(word);
	if ((size_t)(in->end - in->at) < length || memcmp(in->at, word, length))
		return false;
	in->at += length;
	return true;
}

static char *put_utf8(char *out, unsigned code)
{
	if (code < 0x80) {
		*out++ = (char)code;
	} else if (code < 0x800) {
		*out++ = (char)(0xC0 | code >> 6);
		*out++ = (char)(0x80 | (code & 63));
	} else {
		*out++ = (char)(0xE0 | code >> 12);
		*out++ = (char)(0x80 | (code >> 6 & 63));
		*out++ = (char)(0x80 | (code & 63));
	}
	return out;
}

/* After a backslash. A decoded escape is never longer than its spelling, so it fits in place. */
static char *read_escape(struct reader *in, char *out)
{
	static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
	char letter = in->at < in->end ? *in->at++ : 0;
	const char *found = letter ? strchr(names, letter) : NULL;
	if (found) {
		*out++ = values[found - names];
		return out;
	}
	if (letter != 'u' || in->end - in->at < 4)
		return NULL;
	char digits[5] = {in->at[0], in->at[1], in->at[2], in->at[3], 0};
	if (strspn(digits, "0123456789abcdefABCDEF") != 4)
		return NULL;
	in->at += 4;
	unsigned code = (unsigned)strtoul(digits, NULL, 16);
	return code ? put_utf8(out, code) : NULL;
}

/* The string that begins here, decoded in place and ended by a zero byte; NULL if it is broken. */
static char *read_string(struct reader *in)
{
	if (!take(in, '"'))
		return NULL;
	char *start = in->at, *out = in->at;
	while (in->at < in->end) {
		char c = *in->at++;
		if (c == '"') {
			*out = 0;
			return start;
		}
		if ((unsigned char)c < 0x20)
			return NULL;
		if (c != '\\')
			*out++ = c;
		else if (!(out = read_escape(in, out)))
			return NULL;
	}
	return NULL;
}

static bool keep(struct reader *in, const char *path, struct json_value value)
{
	if (in->doc->count == JSON_VALUES)
		return refuse("the command has more than %u values", JSON_VALUES);
	memcpy(value.path, path, strlen(path) + 1);
	in->doc->values[in->doc->count++] = value;
	return true;
}

static bool extend(char *path, size_t length, const char *key)
{
	int written = snprintf(path + length, JSON_PATH - length, "%s%s", length ? "." : "", key);
	return written >= 0 && (size_t)written < JSON_PATH - length;
}

static bool read_object(struct reader *in, char *path, size_t length, unsigned depth)
{
	if (take(in, '}'))
		return true;
	do {
		char *key = read_string(in);
		if (!key || !take(in, ':'))
			return refuse("the line is no JSON: a key is broken");
		if (!extend(path, length, key))
			return refuse("a key of the command is too long");
		if (!read_value(in, path, strlen(path), depth + 1))
			return false;
		path[length] = 0;
	} while (take(in, ','));
	return take(in, '}') || refuse("the line is no JSON: an object does not end");
}

static bool read_array(struct reader *in, char *path, size_t length, unsigned depth)
{
	if (take(in, ']'))
		return true;
	unsigned index = 0;
	do {
		char key[16];
		snprintf(key, sizeof key, "%u", index++);
		if (!extend(path, length, key))
			return refuse("a key of the command is too long");
		if (!read_value(in, path, strlen(path), depth + 1))
			return false;
		path[length] = 0;
	} while (take(in, ','));
	return take(in, ']') || refuse("the line is no JSON: an array does not end");
}

static bool read_number(struct reader *in, const char *path)
{
	char digits[32];
	size_t length = 0;
	while (in->at < in->end && length < sizeof digits - 1 && *in->at &&
	       strchr("+-.0123456789eE", *in->at))
		digits[length++] = *in->at++;
	digits[length] = 0;
	char *end;
	double number = strtod(digits, &end);
	if (!length || *end || !isfinite(number))
		return refuse("the line is no JSON: a value is broken");
	return keep(in, path, (struct json_value){.type = JSON_NUMBER, .number = number});
}

static bool read_value(struct reader *in, char *path, size_t length, unsigned depth)
{
	if (depth > DEPTH)
		return refuse("the command is nested deeper than %u levels", DEPTH);
	if (take(in, '{'))
		return read_object(in, path, length, depth);
	if (take(in, '['))
		return read_array(in, path, length, depth);
	if (in->at < in->end && *in->at == '"') {
		const char *text = read_string(in);
		return text ? keep(in, path, (struct json_value){.type = JSON_STRING, .text = text})
			    : refuse("the line is no JSON: a string is broken");
	}
	if (take_word(in, "true"))
		return keep(in, path, (struct json_value){.type = JSON_BOOL, .number = 1});
	if (take_word(in, "false"))
		return keep(in, path, (struct json_value){.type = JSON_BOOL});
	if (take_word(in, "null"))
		return keep(in, path, (struct json_value){.type = JSON_NULL});
	return read_number(in, path);
}

bool json_parse(char *line, size_t length, struct json *doc)
{
	char path[JSON_PATH] = "";
	struct reader in = {line, line + length, doc};
	doc->count = 0;
	if (!take(&in, '{'))
		return refuse("the line is no JSON object");
	if (!read_object(&in, path, 0, 0))
		return false;
	skip_blanks(&in);
	return in.at == in.end || refuse("the line goes on after its JSON object");
}

const struct json_value *json_find(const struct json *doc, const char *path)
{
	for (unsigned i = 0; i < doc->count; i++)
		if (!strcmp(doc->values[i].path, path) && doc->values[i].type != JSON_NULL)
			return &doc->values[i];
	return NULL;
}

/* The number at `path`; an absent one leaves *value as it is. Refuses another type or range. */
bool json_number(const struct json *doc, const char *path, double low, double high, double *value)
{
	const struct json_value *found = json_find(doc, path);
	if (!found)
		return true;
	if (found->type != JSON_NUMBER)
		return refuse("%s is not a number", path);
	if (found->number < low || found->number > high)
		return refuse("%s is not between %g and %g", path, low, high);
	*value = found->number;
	return true;
}

/* Whole bytes at `path`; an absent one leaves *bytes as it is. */
bool json_size(const struct json *doc, const char *path, uint64_t high, uint64_t *bytes)
{
	double value = (double)*bytes;
	if (!json_number(doc, path, 0, (double)high, &value))
		return false;
	*bytes = (uint64_t)value;
	return (double)*bytes == value || refuse("%s is not a whole number of bytes", path);
}

bool json_bool(const struct json *doc, const char *path, bool *value)
{
	const struct json_value *found = json_find(doc, path);
	if (!found)
		return true;
	if (found->type != JSON_BOOL)
		return refuse("%s is not true or false", path);
	*value = found->number != 0;
	return true;
}

/* The string at `path`, NULL if it is absent or something else. */
const char *json_text(const struct json *doc, const char *path)
{
	const struct json_value *found = json_find(doc, path);
	return found && found->type == JSON_STRING ? found->text : NULL;
}
